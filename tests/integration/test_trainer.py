"""The trainer in a process of its own: rounds, refusals, restarts, and nothing of a patient on the way out."""

import json
import socket as sockets
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client_app import app
from client_app.trainer import trainer_pb2 as pb
from client_app.trainer.connect import SocketTrainer, connect
from client_app.trainer.messages import request_to_proto
from client_app.trainer.trainer_pb2_grpc import TrainerStub
from fedfm.arrays import Arrays
from fedfm.config.compose import compose_study, study_from_json
from fedfm.errors import EngineError, FedFMError
from fedfm.explanations import sum_names
from fedfm.model.build import build_model
from fedfm.parameters import trainable
from fedfm.wire import WIRE_VERSION
from tests.integration.conftest import CANARY, TINY, TrainerProcess, request, study_json, write_hospital

Start = Callable[[Path], TrainerProcess]
Serve = Callable[[Path], Path]


@pytest.fixture(scope="session")
def start_parameters() -> Arrays:
    study = compose_study(TINY).value
    return trainable(build_model(study.model, study.adapter, study.task, seed=study.seed))


def test_rounds_charge_and_restarts_do_not_lower_epsilon(
    tmp_path: Path, start_trainer: Start, start_parameters: Arrays
) -> None:
    site_file = write_hospital(tmp_path / "a")
    first = start_trainer(site_file)
    trainer = SocketTrainer(str(first.socket))
    described = trainer.describe(request(0, {}))
    assert described.site == "hospital-a"
    assert described.groups == ("sex",)
    assert described.privacy.train == 0.0
    assert 2.9 < described.privacy.planned <= 3.0
    one = trainer.train(request(1, start_parameters))
    assert set(one.update) == set(start_parameters)
    assert all(np.isfinite(array).all() for array in one.update.values())
    two = trainer.train(request(2, start_parameters))
    assert one.privacy.train < two.privacy.train < two.privacy.planned

    first.kill()
    again = SocketTrainer(str(start_trainer(site_file).socket))
    assert again.describe(request(0, {})).privacy.train == pytest.approx(two.privacy.train)
    three = again.train(request(3, start_parameters))
    assert three.privacy.train == pytest.approx(three.privacy.planned, rel=1e-6)
    assert again.train(request(3, start_parameters)).privacy.train == three.privacy.train
    other = {name: array + np.float32(1e-6) for name, array in start_parameters.items()}
    with pytest.raises(FedFMError, match="SITE-E104"):
        again.train(request(3, other))
    with pytest.raises(FedFMError, match="SITE-E135"):
        again.train(request(4, start_parameters))
    other_run = request(1, start_parameters, run="run-2")
    with pytest.raises(FedFMError, match="budget of the total"):
        again.train(other_run)


def test_a_killed_round_stays_charged(tmp_path: Path, start_trainer: Start, start_parameters: Arrays) -> None:
    site_file = write_hospital(tmp_path / "a")
    running = start_trainer(site_file)
    with grpc.insecure_channel(f"unix:{running.socket}") as channel:
        message = request_to_proto(request(1, start_parameters, "training.local_steps=900", "rounds=1"))
        future = TrainerStub(channel).Train.future(message)
        ledger = tmp_path / "a" / "state" / "ledger-hospital-a.jsonl"
        for _ in range(600):
            if ledger.exists() and ledger.read_text().endswith("\n"):
                break
            time.sleep(0.05)
        running.kill()
        with pytest.raises(grpc.RpcError):
            future.result(timeout=20)
    charged = SocketTrainer(str(start_trainer(site_file).socket)).describe(request(0, {})).privacy.train
    assert charged > 2.5


def test_evaluation_counts_and_explains_with_noise(tmp_path: Path, serve_here: Serve, start_parameters: Arrays) -> None:
    trainer = SocketTrainer(str(serve_here(write_hospital(tmp_path / "a"))))
    early = trainer.evaluate(request(1, start_parameters))
    assert early.cells.shape == (2, 2)
    assert early.cells_sd > 0.5
    assert early.explanation == {}
    last = trainer.evaluate(request(3, start_parameters))
    assert last.cells.shape == (2, 10)
    assert set(last.explanation) == set(sum_names(study_from_json(study_json())))
    assert last.privacy.train == 0.0
    assert last.privacy.test > early.privacy.test > 0.0
    assert 0.0 < last.privacy.audit <= 3.0


def test_exact_evaluation_needs_the_sites_consent(tmp_path: Path, serve_here: Serve, start_parameters: Arrays) -> None:
    refusing = SocketTrainer(str(serve_here(write_hospital(tmp_path / "a"))))
    with pytest.raises(FedFMError, match="SITE-E103"):
        refusing.evaluate(request(1, start_parameters, "evaluation=exact"))
    open_site = write_hospital(tmp_path / "b", policy="allow_exact_evaluation: true\n  small_cells: none")
    reply = SocketTrainer(str(serve_here(open_site))).evaluate(request(3, start_parameters, "evaluation=exact"))
    assert reply.cells_sd == 0.0
    assert reply.cells.sum() == round(reply.cells.sum())
    assert reply.privacy.test == float("inf")


HOSTILE = {
    "study is no JSON": lambda p: pb.Request(wire_version=WIRE_VERSION, run="r", study_json="{", round=1),
    "study is another thing": lambda p: pb.Request(wire_version=WIRE_VERSION, run="r", study_json="[1]", round=1),
    "other wire version": lambda p: pb.Request(wire_version=99, run="r", study_json="{}", round=1),
    "parameters are junk": lambda p: _with(p, parameters=b"junk"),
    "parameters are missing": lambda p: _with(p, parameters=b""),
}


def _with(start: Arrays, *, parameters: bytes) -> pb.Request:
    message = request_to_proto(request(1, start))
    message.parameters = parameters
    return message


def test_hostile_requests_are_refused_and_spend_nothing(
    tmp_path: Path, serve_here: Serve, start_parameters: Arrays
) -> None:
    site_file = write_hospital(tmp_path / "a")
    socket = serve_here(site_file)
    hostile = [make(start_parameters) for make in HOSTILE.values()]
    for change in ({"extra": np.zeros(2, np.float32)}, {"head.weight": np.zeros((9, 9), np.float32)}):
        hostile.append(request_to_proto(request(1, {**start_parameters, **change})))
    poisoned = {name: np.full_like(array, np.nan) for name, array in start_parameters.items()}
    hostile.append(request_to_proto(request(1, poisoned)))
    hostile.append(request_to_proto(request(0, start_parameters)))
    huge = {name: np.full_like(array, 3e38) for name, array in start_parameters.items()}
    hostile.append(request_to_proto(request(1, huge)))
    hostile += [request_to_proto(request(1, start_parameters, run=run)) for run in ("", "a/../b", "x" * 2_000_000)]
    audit = tmp_path / "a" / "state" / "audit.jsonl"
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        for message in hostile:
            answer = TrainerStub(channel).Train(message)
            assert json.loads(audit.read_text().splitlines()[-1])["kind"] == "TrainAnswer"  # refusals are noted too
            assert answer.WhichOneof("answer") == "refusal", message.round
            assert answer.refusal.code
            assert "internal error" not in answer.refusal.text, answer.refusal.text
    assert not (tmp_path / "a" / "state" / "ledger-hospital-a.jsonl").exists()


def test_no_canary_leaves_on_any_path(tmp_path: Path, serve_here: Serve, start_parameters: Arrays) -> None:
    broken = {
        "good": lambda text: text,
        "labels": lambda text: text.replace(",recovered,", f",{CANARY}-label,"),
        "column": lambda text: text.replace("outcome", f"{CANARY}-outcome", 1),
        "empty": lambda text: text.splitlines()[0] + "\n",
        "one class": lambda text: text.replace("deteriorated", "recovered"),
        "no patient": lambda text: text.replace(f"\n{CANARY}-000001,", "\n,"),
    }
    for name, spoil in broken.items():
        site_file = write_hospital(tmp_path / name)
        table = site_file.parent / "cohort.csv"
        table.write_text(spoil(table.read_text()))
        socket = serve_here(site_file)
        sent = b""
        with grpc.insecure_channel(f"unix:{socket}") as channel:
            stub = TrainerStub(channel)
            for call in (stub.Describe, stub.Train, stub.Evaluate):
                sent_too = {} if call is stub.Describe else start_parameters
                answer = call(request_to_proto(request(3, sent_too)))
                sent += answer.SerializeToString()
                assert (answer.WhichOneof("answer") == "refusal") == (name != "good"), (name, answer)
        column_name = f"{CANARY}-mrn".encode()  # the site file's own name of a column may be told
        assert CANARY.encode() not in sent.replace(column_name, b""), name


def test_groups_leave_under_the_names_of_the_site_file_alone(
    tmp_path: Path, serve_here: Serve, start_parameters: Arrays
) -> None:
    """Values that the site file does not list stay, and so does an attribute of which it lists none."""
    site_file = write_hospital(tmp_path / "a")
    table = site_file.parent / "cohort.csv"
    table.write_text(table.read_text().replace(",male", f",{CANARY}-group"))
    unlisted = f"    ward: {{column: {CANARY}-mrn}}\n  split:"
    site_file.write_text(site_file.read_text().replace("  split:", unlisted, 1))
    request_ = request(3, start_parameters, "task.groups=[sex,ward]")
    with grpc.insecure_channel(f"unix:{serve_here(site_file)}") as channel:
        answer = TrainerStub(channel).Evaluate(request_to_proto(request_))
    assert set(answer.reply.groups) == {"sex=female", "sex=male"}
    assert answer.reply.groups_sd > 0.5
    assert set(answer.reply.losses) == {"loss", "patients"}
    assert CANARY.encode() not in answer.SerializeToString()


def test_an_unforeseen_fault_leaves_as_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def leak(*_: object) -> None:
        raise ValueError(f"could not convert {CANARY}-000001")

    monkeypatch.setattr(app, "connect", leak)
    monkeypatch.setattr("fedfm.wire_records.request_from_records", lambda _: None)
    for name in ("run_id", "node_id", "task_id"):
        monkeypatch.setattr(TaskIdentity, f"_{name}", 1)
    asked = Message(RecordDict({"x": ConfigRecord({})}), dst_node_id=1, message_type="train")
    context = type("Context", (), {"node_config": {}})()
    answer = app._answer(asked, context, lambda *_: RecordDict())
    assert CANARY not in answer.error.reason
    assert "SITE-E500" in answer.error.reason


def test_socket_is_private_and_one_trainer_owns_it(tmp_path: Path, start_trainer: Start) -> None:
    site_file = write_hospital(tmp_path / "a")
    running = start_trainer(site_file)
    assert stat.S_IMODE(running.socket.stat().st_mode) & 0o007 == 0
    second = subprocess.run(
        [sys.executable, "-m", "client_app.trainer", str(site_file), "--socket", str(running.socket)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 2
    assert "SITE-E151" in second.stderr
    assert SocketTrainer(str(running.socket)).status().site == "hospital-a"


def test_a_trainer_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client_app.trainer.connect._READY_SECONDS", 0.5)
    path = tmp_path / "none.sock"
    with pytest.raises(EngineError, match="SITE-E153") as caught:
        SocketTrainer(str(path)).describe(request(0, {}))
    assert str(path) not in str(caught.value)
    with sockets.socket(sockets.AF_UNIX) as left_over:
        left_over.bind(str(path))
    with pytest.raises(EngineError, match="SITE-E153"):
        SocketTrainer(str(path)).describe(request(0, {}))


def test_node_config_must_say_where_the_trainer_is() -> None:
    for config in ({}, {"trainer-socket": "a", "site-config": "b"}):
        with pytest.raises(EngineError, match="SITE-E152"):
            connect(config)


def test_audit_log_holds_what_entered_and_left(tmp_path: Path, serve_here: Serve, start_parameters: Arrays) -> None:
    trainer = SocketTrainer(str(serve_here(write_hospital(tmp_path / "a"))))
    trainer.train(request(1, start_parameters))
    lines = [json.loads(line) for line in (tmp_path / "a" / "state" / "audit.jsonl").read_text().splitlines()]
    assert [(line["direction"], line["kind"]) for line in lines] == [("entered", "Train"), ("left", "TrainAnswer")]
    assert all(line["bytes"] > 100 and len(line["sha256"]) == 64 for line in lines)
    assert CANARY not in json.dumps(lines)

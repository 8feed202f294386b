"""What leaves the trainer when something breaks: codes and numbers, and no word of a patient."""

from pathlib import Path
from typing import Any

import grpc
import pytest

from client_app.audit_log import AuditLog
from client_app.chain import Chain
from client_app.trainer import calls, outgoing
from client_app.trainer import trainer_pb2 as pb
from client_app.trainer import warm as warm_module
from client_app.trainer.calls import CALLS
from client_app.trainer.service import SERVICE, handlers, serve
from client_app.trainer.trainer_pb2_grpc import TrainerStub
from client_app.trainer.warm import Trainer
from fedfm.config.compose import load_site
from tests.integration.boundary import Hospital, asked, hospital_in
from tests.integration.conftest import CANARY, write_hospital


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """One whose budget hardly ends, for the requests of many examples."""
    return hospital_in(tmp_path_factory.mktemp("boundary") / "a", policy="max_epsilon: 100")


@pytest.fixture
def own(tmp_path: Path) -> Hospital:
    return hospital_in(tmp_path / "a")


class Leak(ValueError):
    """A fault whose text quotes a patient."""

    def __init__(self) -> None:
        super().__init__(f"could not convert {CANARY}-000001")


def _leak(*_: object, **__: object) -> None:
    raise Leak


PLACES = [
    *((warm_module, name) for name in ("study_from_json", "check_fields", "accept", "agreed_plan", "prepare")),
    (warm_module.rounds, "train"),
    *((outgoing, name) for name in ("check", "kept_back", "check_names")),
    *((calls.messages, name) for name in ("to_bytes", "_spent_to_proto")),
    (calls, "_plain"),
    (AuditLog, "entered"),
    (AuditLog, "left"),
    (AuditLog, "head"),
    (AuditLog, "check_not_older"),
    *((Chain, name) for name in ("read", "append", "holds")),
]


@pytest.mark.parametrize(("where", "what"), PLACES, ids=[f"{where.__name__}.{what}" for where, what in PLACES])
def test_a_fault_anywhere_leaves_as_a_number_and_the_next_request_is_answered(
    own: Hospital, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: Any, what: str
) -> None:
    own.good()
    own.service._trainer._warm = None
    name = "Train" if what in ("train", "check_names", "to_bytes") else "Describe"
    sent = asked(name, 3).SerializeToString()  # of the round in which a check is asked for
    with monkeypatch.context() as patch:
        patch.setattr(where, what, _leak)
        if what == "kept_back":
            patch.setattr(outgoing, "_equal", lambda part, *_: outgoing.kept_back(part, ""))
        data = own.service.answer(name, sent)
    answer = CALLS[name].answer.FromString(data)  # type: ignore[attr-defined]
    assert answer.refusal.code == "SITE-E500", answer
    assert CANARY.encode() not in data
    assert answer.refusal.text.partition("incident ")[2][:8] in caplog.text
    own.good()


def test_a_fault_in_the_refusal_itself_is_silent_towards_grpc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC would send the text of an exception; a thread that ends without an answer would leave the caller waiting."""
    path = tmp_path / "s.sock"
    server = serve(Trainer(load_site(write_hospital(tmp_path / "a"))), path)
    for fault in (Leak, lambda: SystemExit(f"{CANARY}-000001")):

        def broken(*_: object, fault: Any = fault) -> None:
            raise fault()

        with grpc.insecure_channel(f"unix:{path}") as channel, monkeypatch.context() as patch:
            patch.setattr("client_app.trainer.service.Service._refused", broken)
            patch.setattr("client_app.trainer.service.version", broken)
            stub = TrainerStub(channel)
            for call, sent in ((stub.Train, pb.Request()), (stub.Status, pb.StatusRequest())):
                with pytest.raises(grpc.RpcError) as failed:
                    call(sent, timeout=20)
                assert CANARY not in str(failed.value)
                assert CANARY not in failed.value.details()
                assert "SITE-E500" in failed.value.details()
    server.stop(grace=None).wait()


def test_every_call_of_the_service_has_one_handler_and_no_other(own: Hospital) -> None:
    methods = {method.name for method in pb.DESCRIPTOR.services_by_name["Trainer"].methods}
    assert set(handlers(own.service)) == methods
    assert SERVICE == "fedfm.trainer.v1.Trainer"


@pytest.mark.parametrize("at", ["entered", "left", "both"])
def test_a_full_disk_is_said_and_nothing_leaves(own: Hospital, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    own.good()
    real, count = AuditLog._record, []

    def full(self: AuditLog, direction: str, *rest: Any, **of: Any) -> None:
        if at in (direction, "both"):
            count.append(1)
            with monkeypatch.context() as patch:
                patch.setattr("client_app.chain.os.fsync", _no_space)
                real(self, direction, *rest, **of)
        real(self, direction, *rest, **of)

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "_record", full)
        answer = pb.TrainAnswer.FromString(own.service.answer("Train", asked("Train").SerializeToString()))
    assert answer.refusal.code == "SITE-E150"
    assert count
    assert bool(own.ledger) == (at == "left")  # the charge of what was computed stays
    AuditLog(own.folder / "state").entries()  # whole
    own.good()


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")

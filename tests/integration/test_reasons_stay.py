"""Nothing of a note leaves with explanations on, on happy and on error paths, through the bytes of the messages."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch

from client_app.layer_gradients import Grouping, recording
from client_app.reasons import before_sending, explained
from client_app.trainer.messages import request_to_proto
from client_app.trainer.trainer_pb2_grpc import TrainerStub
from fedfm.arrays import Arrays
from tests.integration.conftest import CANARY, request, write_hospital
from tests.integration.test_reasons import ALL, LISTS, trainer_of
from tests.integration.test_reasons import start as start  # noqa: PLC0414 - a fixture
from tests.integration.test_reasons_acted import failing

Serve = Callable[[Path], Path]
OWN = f"explanations: {{shortcuts: {{{CANARY.lower()}-own: [{CANARY}-000001, lactate]}}}}\n"


def test_hooks_of_a_private_step_end_the_round(
    tmp_path: Path, start: Arrays, serve_here: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = before_sending.look

    def hooked(model: Any, *of: Any, **how: Any) -> Any:
        with recording(model, Grouping(torch.zeros(1, dtype=torch.int64), 1)):
            return look(model, *of, **how)

    monkeypatch.setattr(before_sending, "look", hooked)
    answer = train_over(serve_here(write_hospital(tmp_path)), start)
    assert answer.refusal.code == "MODEL-E147"


def train_over(socket: Path, start: Arrays, *overrides: str) -> Any:
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        return TrainerStub(channel).Train(request_to_proto(request(3, start, *ALL, *LISTS, *overrides)))


def spoiled_history(folder: Path) -> None:
    for path in (folder / "state").glob("check-*.json"):
        path.write_text(f"{CANARY} {{")


def as_it_is(folder: Path, patch: pytest.MonkeyPatch) -> None:
    pass


def withheld(folder: Path, patch: pytest.MonkeyPatch) -> None:
    failing(patch)


def broken_look(folder: Path, patch: pytest.MonkeyPatch) -> None:
    def breaks(_: Any, documents: Any, *of: Any, **how: Any) -> None:
        raise ValueError(f"cannot explain {documents[0].text}")

    patch.setattr(before_sending, "look", breaks)
    patch.setattr(explained, "look", breaks)


def damaged_history(folder: Path, patch: pytest.MonkeyPatch) -> None:
    last_before = before_sending.check_history.last_before

    def spoiling(asked: Any) -> Any:
        spoiled_history(folder)
        return last_before(asked)

    patch.setattr(before_sending.check_history, "last_before", spoiling)


def full_disk(folder: Path, patch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", f"{CANARY}.json")

    patch.setattr("client_app.own_files.os.fdopen", full)


PATHS = {
    "good": (as_it_is, ("reply", "reply")),
    "withheld": (withheld, ("refusal", "reply")),
    "look breaks": (broken_look, ("refusal", "refusal")),
    "damaged history": (damaged_history, ("reply", "reply")),
    "full disk": (full_disk, ("refusal", "refusal")),  # an answer is kept before it leaves
}


@pytest.mark.parametrize("name", PATHS)
def test_no_canary_leaves_with_explanations_on(
    name: str,
    tmp_path: Path,
    start: Arrays,
    serve_here: Serve,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It stands in every note, in a column's name, a group, the table's file name and a list of the site's own."""
    spoil, expected = PATHS[name]
    file = write_hospital(tmp_path, policy="on_failed_check: withhold")
    table = tmp_path / "cohort.csv"
    table.write_text(table.read_text().replace(",male", f",{CANARY}-group"))
    table.rename(tmp_path / f"{CANARY}.csv")
    site = file.read_text().replace("cohort.csv", f"{CANARY}.csv").replace("male: male", f"{CANARY}-group: male")
    file.write_text(site + OWN)
    socket = serve_here(file)
    spoil(tmp_path, monkeypatch)
    answers = []
    with grpc.insecure_channel(f"unix:{socket}") as channel, caplog.at_level(logging.INFO):
        stub = TrainerStub(channel)
        for call, number in ((stub.Train, 2), (stub.Train, 3), (stub.Evaluate, 3)):
            question = request_to_proto(request(number, start, *ALL, *LISTS))
            answers.append(call(question))
    sent = b"".join(answer.SerializeToString() for answer in answers)
    assert tuple(answer.WhichOneof("answer") for answer in answers[1:]) == expected, answers
    assert CANARY.lower().encode() not in sent.lower()
    for file in (tmp_path / "state").glob("check-*.json"):
        assert CANARY not in file.read_text() or name == "damaged history"
    told = [record for record in caplog.records if record.name.startswith(("client_app.before", "client_app.check"))]
    assert CANARY not in " ".join(record.getMessage() for record in told)


def test_a_check_that_is_kept_lets_old_ones_of_other_runs_go(tmp_path: Path, start: Arrays) -> None:
    own = "explanations: {keep_days: 30}\n"
    trainer = trainer_of(tmp_path, own=own)
    (tmp_path / "state").mkdir(exist_ok=True)
    old, new = (tmp_path / "state" / f"check-1-{name * 16}.json" for name in "0f")
    for path, days in ((old, 31), (new, 29)):
        path.write_text("{}")
        os.utime(path, (time.time() - days * 24 * 60 * 60,) * 2)
    for number in (1, 2):
        trainer.train(request(number, start, *ALL))
    kept = {path.name for path in (tmp_path / "state").glob("check-*.json")}
    assert old.name not in kept
    assert new.name in kept
    assert len(kept) == 3

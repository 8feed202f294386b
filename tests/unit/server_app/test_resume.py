"""A run that is interrupted anywhere and resumed ends as if nothing had happened."""

import errno
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from fedfm.errors import EngineError
from fedfm.wire import TrainReply
from server_app import app, checkpoints
from server_app.report import events
from server_app.report.event_log import EventLog, read_events
from server_app.report.verdict import Verdict
from server_app.simulate import InProcessGrid
from tests.unit.server_app.federation import Hospital, client_app, study_of

NAMES = ("a1", "b1", "c1", "d1")
PLAIN = ("rounds=2",)
STUDIES = {
    "plain": PLAIN,
    "rules with memory": ("rounds=3", "weighting=fairfed", "optimizing=adam", "selection=fraction"),
    "the best round": ("rounds=4", "fairness.final=best", "optimizing=momentum"),
    "pooled statistics": ("rounds=2", "standardize.method=global"),
    "one exchange": ("rounds=3", "evaluation.exchange=with_training", "weighting=power"),
    "seldom evaluated": ("rounds=4", "evaluation.every=3"),
}


def drifting(site: int) -> Hospital:
    """Its update depends on what it received, so that any difference before shows."""

    def train(reply: TrainReply) -> TrainReply:
        received = hospital.asked[-1].parameters
        update = {
            name: (np.sin(array + site) / (1 + reply.round)).astype(np.float32) for name, array in received.items()
        }
        return replace(reply, update=update)

    def evaluate(reply: Any) -> Any:
        loss = 3.0 + site + float(np.abs(hospital.asked[-1].parameters["head.weight"]).mean())
        return replace(reply, losses={"loss": min(loss, 9.0), "patients": 10.0})

    def summarise(reply: Any) -> Any:
        return replace(reply, sums=hospital.patients * np.array([0.25, 0.25, 1.0, *[0.0] * 31, 0.125]))

    hospital = Hospital(patients=60 + 10 * site, train=train, evaluate=evaluate, summarise=summarise)
    return hospital


class Watched(InProcessGrid):
    """Copies the run's folder before anything is sent and after any answer came: each copy is a kill at that moment."""

    def __init__(
        self, folder: Path, copies: Path | None, others: Mapping[str, Hospital] = MappingProxyType({})
    ) -> None:
        hospitals = {name: drifting(site) for site, name in enumerate(NAMES)} | dict(others)
        super().__init__(client_app(hospitals), {name: Path(f"/{name}.yaml") for name in NAMES})
        self._folder, self._copies = folder, copies

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self._copy()
        return super().push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for answer in super().pull_messages(message_ids):
            self._copy()
            yield answer

    def _copy(self) -> None:
        if self._copies is not None:
            shutil.copytree(self._folder, self._copies / f"{len(list(self._copies.iterdir())):03d}" / "run-1")


def begun(folder: Path, *overrides: str) -> Any:
    study = study_of(*overrides)
    folder.mkdir(parents=True)
    (folder / "config.resolved.json").write_text(json.dumps(asdict(study)))
    return study


def outcome(folder: Path) -> tuple[dict[str, bytes], list[Any]]:
    """Return the final adapter, and all that happened but for when, and for who came back."""
    happened = []
    for event in read_events(folder / "events.jsonl"):
        if not isinstance(event, events.RunResumed | events.SiteJoined):
            told = asdict(event) | {"kind": type(event).__name__}
            told["update_norm"] = round(told.get("update_norm", 0.0), 9)  # its sum depends on where arrays lie
            happened.append({name: value for name, value in told.items() if name != "seconds"})
    return {path.name: path.read_bytes() for path in sorted((folder / "adapter").iterdir())}, happened


@pytest.mark.parametrize("name", STUDIES)
def test_a_run_killed_anywhere_and_resumed_ends_as_if_nothing_had_happened(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "write_report", lambda folder: Verdict("completed", "", "", is_private=True, reasons=()))
    folder, copies = tmp_path / "whole" / "run-1", tmp_path / "copies"
    copies.mkdir()
    study = begun(folder, *STUDIES[name])
    app.run(study, Watched(folder, copies), folder, memory=tmp_path)
    whole = outcome(folder)
    moments = sorted(copies.iterdir())
    assert len(moments) > 4 * study.rounds
    for moment in moments[len(name) % 4 :: 4]:  # other moments of each study, so that the tests stay quick
        app.run(study, Watched(moment / "run-1", None), moment / "run-1", memory=moment, is_resumed=True)
        assert outcome(moment / "run-1") == whole, moment.name
        (resumed,) = (e for e in read_events(moment / "run-1" / "events.jsonl") if isinstance(e, events.RunResumed))
        assert "killed" in resumed.ended


def test_a_run_resumed_twice_says_so_twice_and_loses_no_line(tmp_path: Path) -> None:
    folder, copies = tmp_path / "whole" / "run-1", tmp_path / "copies"
    copies.mkdir()
    study = begun(folder, *PLAIN)
    app.run(study, Watched(folder, copies), folder, memory=tmp_path)
    moment = sorted(copies.iterdir())[-2] / "run-1"
    before = (moment / "events.jsonl").read_bytes()
    again = tmp_path / "again"
    again.mkdir()
    app.run(study, Watched(moment, again), moment, memory=moment, is_resumed=True)
    cut = b"".join(path.read_bytes() for path in sorted(moment.glob("interrupted-*.jsonl")))
    assert before.endswith(cut)
    later = sorted(again.iterdir())[-1] / "run-1"
    app.run(study, Watched(later, None), later, memory=later, is_resumed=True)
    resumed = [e for e in read_events(later / "events.jsonl") if isinstance(e, events.RunResumed)]
    assert len(resumed) == 2
    assert outcome(later) == outcome(folder)
    assert "resumed" in (later / "report.html").read_text()


def interrupted_after(
    rounds: int, folder: Path, *overrides: str, others: Mapping[str, Hospital] = MappingProxyType({})
) -> Any:
    """Let a study run until the SuperLink fails, which it does once these rounds are done; return the study."""

    class Failing(Watched):
        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            asked = list(messages)
            if any(message.metadata.group_id == str(rounds + 1) for message in asked):
                raise ConnectionError("the SuperLink is gone")
            return super().push_messages(asked)

    study = begun(folder, *overrides)
    with pytest.raises(ConnectionError):
        app.run(study, Failing(folder, None, others), folder, memory=folder.parent)
    return study


def test_a_run_that_failed_says_why_when_it_is_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    study = interrupted_after(1, folder, *PLAIN)
    app.run(study, Watched(folder, None), folder, memory=tmp_path, is_resumed=True)
    (resumed,) = (event for event in read_events(folder / "events.jsonl") if isinstance(event, events.RunResumed))
    assert (resumed.round, resumed.phase) == (1, "evaluated")
    assert "RUN-E002" in resumed.ended
    assert "ConnectionError" in resumed.ended
    report = (folder / "report.html").read_text()
    assert "resumed after round 1" in report


def test_a_damaged_checkpoint_costs_a_round_and_is_told(tmp_path: Path) -> None:
    whole = tmp_path / "whole" / "run-1"
    app.run(begun(whole, "rounds=3"), Watched(whole, None), whole, memory=tmp_path / "whole")
    folder = tmp_path / "run-1"
    study = interrupted_after(2, folder, "rounds=3")
    newest = folder / "checkpoint-0002.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    app.run(study, Watched(folder, None), folder, memory=tmp_path, is_resumed=True)
    (resumed,) = (event for event in read_events(folder / "events.jsonl") if isinstance(event, events.RunResumed))
    assert resumed.round == 1
    assert resumed.damaged == ("round 2: checkpoint-0002.safetensors is not what was written",)
    assert outcome(folder) == outcome(whole)


def test_a_run_without_a_whole_checkpoint_is_not_begun_anew(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    study = interrupted_after(1, folder, *PLAIN)
    before = (folder / "events.jsonl").read_bytes()
    for path in folder.glob("checkpoint*"):
        path.write_bytes(b"{}")
    with pytest.raises(EngineError, match="RUN-E006"):
        app.run(study, Watched(folder, None), folder, memory=tmp_path, is_resumed=True)
    assert (folder / "events.jsonl").read_bytes() == before


def test_a_completed_run_is_not_run_again(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    study = begun(folder, "rounds=1")
    app.run(study, Watched(folder, None), folder, memory=tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(EngineError, match="has completed"):
        app.run(study, Watched(folder, None), folder, memory=tmp_path, is_resumed=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_run_that_still_goes_on_is_not_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    study = interrupted_after(1, folder, *PLAIN)
    log = EventLog(folder / "events.jsonl", lambda event: None)
    with log.held(), pytest.raises(EngineError, match="RUN-E008"):
        app.run(study, Watched(folder, None), folder, memory=tmp_path, is_resumed=True)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    interrupted_after(1, folder, *PLAIN)
    other = study_of(*PLAIN, "adapter=lora")
    with pytest.raises(EngineError, match="RUN-E009"):
        app.run(other, Watched(folder, None), folder, memory=tmp_path, is_resumed=True)


def test_a_full_disk_ends_the_run_with_a_code_and_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = tmp_path / "run-1", checkpoints.write_whole

    def full(path: Path, data: bytes) -> None:
        if path.name.startswith("checkpoint-0002"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, data)

    study = begun(folder, *PLAIN)
    monkeypatch.setattr(checkpoints, "write_whole", full)
    with pytest.raises(EngineError, match=r"RUN-E005.*No space left"):
        app.run(study, Watched(folder, None), folder, memory=tmp_path)
    monkeypatch.undo()
    app.run(study, Watched(folder, None), folder, memory=tmp_path, is_resumed=True)
    (resumed,) = (event for event in read_events(folder / "events.jsonl") if isinstance(event, events.RunResumed))
    assert (resumed.round, resumed.phase) == (1, "evaluated")

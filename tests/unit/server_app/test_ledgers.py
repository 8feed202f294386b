"""The coordinator's memory of the sites' ledgers: over runs, beside other runs, and against sites that go back."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedfm.errors import EngineError, IncompatibleUpdate
from server_app.ledgers import FILE, Ledgers
from server_app.report import events
from tests.unit.server_app.federation import SPENT, Hospital, Outcome, federate


def seal(number: int) -> str:
    return f"{number:064x}"


def spent(entries: int, of: int | None = None) -> Any:
    return replace(SPENT, entries=entries, seal=seal(entries if of is None else of) if entries else "")


def test_what_was_told_is_known_in_the_next_run(tmp_path: Path) -> None:
    Ledgers(tmp_path).note("a", spent(3))
    Ledgers(tmp_path).note("b", spent(1))
    later = Ledgers(tmp_path)
    assert (later.of("a"), later.of("b"), later.of("c")) == ((3, seal(3)), (1, seal(1)), (0, ""))
    assert sorted(json.loads((tmp_path / FILE).read_text())) == ["a", "b"]


@pytest.mark.parametrize(("told", "of"), [(2, None), (0, None), (3, 7)], ids=["shorter", "empty", "another"])
def test_a_ledger_that_goes_back_is_refused_and_not_remembered(tmp_path: Path, told: int, of: int | None) -> None:
    ledgers = Ledgers(tmp_path)
    ledgers.note("a", spent(3))
    with pytest.raises(IncompatibleUpdate, match="ROUND-E021"):
        ledgers.note("a", spent(told, of))
    assert ledgers.of("a") == Ledgers(tmp_path).of("a") == (3, seal(3))
    ledgers.note("a", spent(3))  # nothing was charged in between
    ledgers.note("a", spent(9))  # answers were lost in between
    assert ledgers.of("a") == (9, seal(9))


def test_runs_beside_each_other_never_write_a_ledger_shorter(tmp_path: Path) -> None:
    """And the news of one run do not make answers look old that are on their way to the other."""
    one, two = Ledgers(tmp_path), Ledgers(tmp_path)
    two.note("a", spent(12))
    one.note("b", spent(1))
    one.note("a", spent(11))
    assert Ledgers(tmp_path).of("a") == (12, seal(12))
    assert Ledgers(tmp_path).of("b") == (1, seal(1))


def test_the_memory_is_on_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledgers, flushed, real = Ledgers(tmp_path), [], Path.replace
    monkeypatch.setattr(os, "fsync", flushed.append)

    def replaced(self: Path, target: Path) -> Path:
        assert flushed, "exchanged before it was on disk"
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replaced)
    ledgers.note("a", spent(1))
    assert json.loads((tmp_path / FILE).read_text()) == {"a": {"entries": 1, "seal": seal(1)}}


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 3}', '{"a": {"entries": "x", "seal": ""}}'])
def test_a_damaged_memory_is_an_error_and_no_empty_one(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(EngineError, match="RUN-E004"):
        Ledgers(tmp_path)


def test_a_memory_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledgers = Ledgers(tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EngineError, match=r"RUN-E004.*No space"):
        ledgers.note("a", spent(1))


class Growing:
    """The ledger of a hospital of a test: one entry longer with each training and evaluation."""

    def __init__(self, entries: int = 0) -> None:
        self.entries = entries

    def told(self, reply: Any) -> Any:
        return replace(reply, privacy=spent(self.entries))

    def grown(self, reply: Any) -> Any:
        self.entries += 1
        return self.told(reply)

    def hospital(self) -> Hospital:
        return Hospital(describe=self.told, train=self.grown, evaluate=self.grown)


def left_out(outcome: Outcome) -> list[tuple[str, str, str]]:
    return [(event.site, event.phase, event.code) for event in outcome.of(events.SiteLeftOut)]


def echoed(hospital: Hospital) -> list[tuple[int, str]]:
    return [(request.ledger_entries, request.ledger_seal) for request in hospital.asked]


def test_every_request_says_back_what_this_site_told_last(tmp_path: Path) -> None:
    ledgers = {"a1": Growing(), "b1": Growing(20)}
    hospitals = {name: ledger.hospital() for name, ledger in ledgers.items()}
    assert federate(hospitals, tmp_path, "rounds=2").error is None
    first = echoed(hospitals["a1"])
    assert first == [(0, ""), (0, ""), *((entries, seal(entries)) for entries in range(1, len(first) - 1))]
    assert echoed(hospitals["b1"])[:3] == [(0, ""), (20, seal(20)), (21, seal(21))]
    again = {name: ledger.hospital() for name, ledger in ledgers.items()}
    federate(again, tmp_path, "rounds=1")
    told = len(first) - 1
    assert echoed(again["a1"])[0] == (told, seal(told))  # the very first question of the next run


def test_a_site_whose_ledger_went_back_is_left_out_by_name(tmp_path: Path) -> None:
    federate({name: Growing(8).hospital() for name in ("a1", "b1", "c1")}, tmp_path, "rounds=1")
    sites = {"a1": Growing(30).hospital(), "b1": Growing(30).hospital(), "c1": Growing(2).hospital()}
    outcome = federate(sites, tmp_path, "rounds=1")
    assert outcome.error is None
    assert left_out(outcome) == [("c1", "start", "ROUND-E021")]


def test_a_site_that_goes_back_in_the_middle_of_a_run_is_left_out_of_that_round(tmp_path: Path) -> None:
    rolling = Growing(8)
    back = Hospital(describe=rolling.told, train=lambda reply: replace(reply, privacy=spent(3)), evaluate=rolling.grown)
    outcome = federate({"a1": Growing().hospital(), "b1": Growing().hospital(), "c1": back}, tmp_path, "rounds=1")
    assert outcome.error is None
    assert left_out(outcome) == [("c1", "training", "ROUND-E021")]

"""The coordinator's memory of the sites' ledgers: over runs, beside other runs, and against sites that go back."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedfm.errors import EngineError, IncompatibleUpdate
from fedfm.wire import Head, Heads
from server_app.ledgers import FILE, Ledgers
from server_app.report import events
from tests.unit.server_app.federation import SPENT, Hospital, Outcome, federate


def seal(number: int) -> str:
    return f"{number:064x}"


def spent(entries: int, of: int | None = None, *, audit: int = 0) -> Any:
    """What a site tells of a ledger and of an audit log of so many entries."""
    told = replace(SPENT, entries=entries, seal=seal(entries if of is None else of) if entries else "")
    return replace(told, audit_entries=audit, audit_seal=seal(audit) if audit else "")


def heads(ledger: int, audit: int = 0) -> Heads:
    return Heads(*(Head(length, seal(length)) if length else Head() for length in (ledger, audit)))


def test_what_was_told_is_known_in_the_next_run(tmp_path: Path) -> None:
    Ledgers(tmp_path).note("a", spent(3))
    Ledgers(tmp_path).note("b", spent(1))
    later = Ledgers(tmp_path)
    assert (later.of("a"), later.of("b"), later.of("c")) == (heads(3), heads(1), Heads())
    assert sorted(json.loads((tmp_path / FILE).read_text())) == ["a", "b"]


@pytest.mark.parametrize(("told", "of"), [(2, None), (0, None), (3, 7)], ids=["shorter", "empty", "another"])
def test_a_ledger_that_goes_back_is_refused_and_not_remembered(tmp_path: Path, told: int, of: int | None) -> None:
    ledgers = Ledgers(tmp_path)
    ledgers.note("a", spent(3))
    with pytest.raises(IncompatibleUpdate, match="ROUND-E021"):
        ledgers.note("a", spent(told, of))
    assert ledgers.of("a") == Ledgers(tmp_path).of("a") == heads(3)
    ledgers.note("a", spent(3))  # nothing was charged in between
    ledgers.note("a", spent(9))  # answers were lost in between
    assert ledgers.of("a") == heads(9)


@pytest.mark.parametrize(("told", "of"), [(7, None), (0, None), (8, 3)], ids=["shorter", "none", "another"])
def test_an_audit_log_that_goes_back_is_refused_and_not_remembered(tmp_path: Path, told: int, of: int | None) -> None:
    ledgers = Ledgers(tmp_path)
    ledgers.note("a", spent(3, audit=8))
    back = spent(4, audit=told) if of is None else replace(spent(4, audit=told), audit_seal=seal(of))
    with pytest.raises(IncompatibleUpdate, match="ROUND-E026"):
        ledgers.note("a", back)
    assert ledgers.of("a") == Ledgers(tmp_path).of("a") == heads(3, 8)
    ledgers.note("a", spent(3, audit=9))  # the ledger need not grow
    assert ledgers.of("a") == heads(3, 9)


def test_a_site_that_never_told_of_an_audit_log_keeps_none(tmp_path: Path) -> None:
    ledgers = Ledgers(tmp_path)
    ledgers.note("a", spent(3))
    ledgers.note("a", spent(4))  # a trainer inside the ClientApp's process
    assert ledgers.of("a") == heads(4)


def test_a_memory_of_an_older_release_knows_the_ledgers_and_no_audit_log(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"a": {"entries": 3, "seal": seal(3)}}))
    ledgers = Ledgers(tmp_path)
    assert ledgers.of("a") == heads(3)
    ledgers.note("a", spent(3, audit=2))
    assert Ledgers(tmp_path).of("a") == heads(3, 2)
    with pytest.raises(IncompatibleUpdate, match="ROUND-E021"):
        ledgers.note("a", spent(2, audit=4))


def test_runs_beside_each_other_never_write_a_ledger_shorter(tmp_path: Path) -> None:
    """And the news of one run do not make answers look old that are on their way to the other."""
    one, two = Ledgers(tmp_path), Ledgers(tmp_path)
    two.note("a", spent(12, audit=20))
    one.note("b", spent(1))
    one.note("a", spent(11, audit=24))  # of each file the longest: they need not be of one answer
    assert Ledgers(tmp_path).of("a") == heads(12, 24)
    assert Ledgers(tmp_path).of("b") == heads(1)


def test_the_memory_is_on_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledgers, flushed, real = Ledgers(tmp_path), [], Path.replace
    monkeypatch.setattr(os, "fsync", flushed.append)

    def replaced(self: Path, target: Path) -> Path:
        assert flushed, "exchanged before it was on disk"
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replaced)
    ledgers.note("a", spent(1, audit=2))
    written = {"entries": 1, "seal": seal(1), "audit_entries": 2, "audit_seal": seal(2)}
    assert json.loads((tmp_path / FILE).read_text()) == {"a": written}


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{", '{"a": 3}', '{"a": {"entries": "x", "seal": ""}}'),
        '{"a": {"entries": 1, "seal": "", "audit_entries": 1}}',
    ],
)
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
        return replace(reply, privacy=spent(self.entries, audit=2 * self.entries))

    def grown(self, reply: Any) -> Any:
        self.entries += 1
        return self.told(reply)

    def hospital(self) -> Hospital:
        return Hospital(describe=self.told, train=self.grown, evaluate=self.grown)


def left_out(outcome: Outcome) -> list[tuple[str, str, str]]:
    return [(event.site, event.phase, event.code) for event in outcome.of(events.SiteLeftOut)]


def echoed(hospital: Hospital) -> list[Heads]:
    return [
        Heads(Head(asked.ledger_entries, asked.ledger_seal), Head(asked.audit_entries, asked.audit_seal))
        for asked in hospital.asked
    ]


def test_every_request_says_back_what_this_site_told_last(tmp_path: Path) -> None:
    ledgers = {"a1": Growing(), "b1": Growing(20)}
    hospitals = {name: ledger.hospital() for name, ledger in ledgers.items()}
    assert federate(hospitals, tmp_path, "rounds=2").error is None
    first = echoed(hospitals["a1"])
    assert first == [Heads(), Heads(), *(heads(entries, 2 * entries) for entries in range(1, len(first) - 1))]
    assert echoed(hospitals["b1"])[:3] == [Heads(), heads(20, 40), heads(21, 42)]
    again = {name: ledger.hospital() for name, ledger in ledgers.items()}
    federate(again, tmp_path, "rounds=1")
    told = len(first) - 1
    assert echoed(again["a1"])[0] == heads(told, 2 * told)  # the very first question of the next run


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

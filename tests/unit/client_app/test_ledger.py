"""The ledger never forgets, never passes a limit, and notices what was done to its file."""

import json
import multiprocessing
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_app.chain import Chain
from client_app.ledger import Charge, Ledger, Limits
from fedfm.errors import DataError, PolicyError, PrivacyBudgetExceeded
from fedfm.privacy import Release, epsilon

OPEN = Limits(run=100.0, total=100.0, delta=1e-4)


def charge(run: str = "a", round_: int = 1, *, noise: float = 2.0, split: str = "train") -> Charge:
    return Charge(run, "study", round_, split, "training", Release(noise, 1.0, 2))  # type: ignore[arg-type]


def test_epsilon_is_that_of_the_joined_history_over_restarts_and_runs(tmp_path: Path) -> None:
    for run, round_ in [("a", 1), ("a", 2), ("b", 1)]:
        Ledger(tmp_path, "c").charge(charge(run, round_), OPEN)  # a new object each time: a restart
    assert Ledger(tmp_path, "c").epsilon("train", 1e-4) == epsilon([Release(2.0, 1.0, 6)], 1e-4)
    assert Ledger(tmp_path, "c").epsilon("train", 1e-4, run="a") == epsilon([Release(2.0, 1.0, 4)], 1e-4)


def test_splits_have_sums_of_their_own(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "c")
    ledger.charge(charge(split="test"), OPEN)
    assert ledger.epsilon("train", 1e-4) == 0.0
    assert ledger.epsilon("test", 1e-4) > 0.0


def test_the_same_round_asked_twice_costs_twice(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "c")
    ledger.charge(charge(), OPEN)
    once = ledger.epsilon("train", 1e-4)
    ledger.charge(charge(), OPEN)
    assert ledger.epsilon("train", 1e-4) > once


@pytest.mark.parametrize("other", [{"unit": "record"}, {"division": "b"}])
def test_one_ledger_counts_for_one_unit_and_one_division(tmp_path: Path, other: dict[str, str]) -> None:
    """A patient who moves from test to train would spend both budgets, and each sum would hide half of it."""
    Ledger(tmp_path, "c").charge(replace(charge(), division="a"), OPEN)
    ledger = Ledger(tmp_path, "c")
    with pytest.raises(PolicyError, match="SITE-E117"):
        ledger.charge(replace(charge(), **({"division": "a"} | other)), OPEN)
    ledger.charge(replace(charge(split="test"), division="a"), OPEN)
    assert len(ledger.charges()) == 2


def test_sites_of_one_cohort_share_its_ledger_but_not_a_run(tmp_path: Path) -> None:
    """Two trainers for two GPUs; the file says so also to a trainer that has just begun."""
    first, second = Ledger(tmp_path, "c"), Ledger(tmp_path, "c")
    first.charge(replace(charge("a"), site="hospital-1"), OPEN)
    second.charge(replace(charge("b"), site="hospital-2"), OPEN)
    for ledger in (second, Ledger(tmp_path, "c")):
        with pytest.raises(PolicyError, match="SITE-E248"):
            ledger.charge(replace(charge("a", 2), site="hospital-2"), OPEN)
    first.charge(replace(charge("a", 2), site="hospital-1"), OPEN)
    assert [(entry.run, entry.site) for entry in Ledger(tmp_path, "c").charges()] == [
        ("a", "hospital-1"),
        ("b", "hospital-2"),
        ("a", "hospital-1"),
    ]
    assert first.epsilon("train", 1e-4) == epsilon([Release(2.0, 1.0, 6)], 1e-4)


def test_an_unprotected_release_costs_everything(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "c")
    with pytest.raises(PrivacyBudgetExceeded):
        ledger.charge(charge(noise=0.0), OPEN)
    ledger.charge(charge(noise=0.0), Limits(float("inf"), float("inf"), 1e-4))
    assert ledger.epsilon("train", 1e-4) == float("inf")
    with pytest.raises(PrivacyBudgetExceeded):
        ledger.charge(charge(noise=50.0), OPEN)


@given(rounds=st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.8, 4.0)), min_size=1, max_size=12))
@settings(max_examples=15, deadline=None)
def test_no_order_of_charges_passes_a_limit(rounds: list[tuple[str, float]]) -> None:
    limits = Limits(run=3.0, total=4.0, delta=1e-4)
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder), "c")
        for run, noise in rounds:
            before = ledger.charges()
            try:
                ledger.charge(charge(run, noise=noise), limits)
            except PrivacyBudgetExceeded:
                assert ledger.charges() == before  # a refusal writes nothing
            assert ledger.epsilon("train", 1e-4) <= 4.0
            assert all(ledger.epsilon("train", 1e-4, run=name) <= 3.0 for name in "ab")


def _charge_many(folder: str, run: str) -> None:
    for round_ in range(10):
        Ledger(Path(folder), "c").charge(charge(run, round_), OPEN)


def test_two_processes_lose_no_charge(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # spawning would import all anew
    workers = [context.Process(target=_charge_many, args=(str(tmp_path), run)) for run in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(Ledger(tmp_path, "c").charges()) == 20


@pytest.mark.parametrize("damage", ["edit", "drop", "swap", "glue", "junk"])
def test_damage_is_found_and_nothing_is_charged_on_top(tmp_path: Path, damage: str) -> None:
    ledger = Ledger(tmp_path, "c")
    for round_ in (1, 2, 3):
        ledger.charge(charge(round_=round_), OPEN)
    lines = ledger.path.read_text().splitlines(keepends=True)
    if damage == "edit":
        lines[1] = lines[1].replace('"steps": 2', '"steps": 1')
    elif damage == "drop":
        del lines[1]
    elif damage == "swap":
        lines[0], lines[1] = lines[1], lines[0]
    elif damage == "glue":
        lines[1] = lines[1][: len(lines[1]) // 2]
    else:
        lines.append("[]\n")
    ledger.path.write_text("".join(lines))
    for reader in (ledger, Ledger(tmp_path, "c")):  # one that has read it before, and one that has not
        with pytest.raises(DataError, match="SITE-E115"):
            reader.epsilon("train", 1e-4)
        with pytest.raises(DataError, match="SITE-E115"):
            reader.charge(charge(round_=4), OPEN)
    assert ledger.path.read_text() == "".join(lines)


def test_a_full_disk_leaves_the_ledger_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path, "c")
    ledger.charge(charge(), OPEN)
    before = ledger.path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="SITE-E150"):
        ledger.charge(charge(round_=2), OPEN)
    monkeypatch.undo()
    assert ledger.path.read_bytes() == before
    assert len(ledger.charges()) == 1


def test_entries_are_plain_json_lines(tmp_path: Path) -> None:
    Chain(tmp_path / "x.jsonl").append({"kind": "a"})
    Chain(tmp_path / "x.jsonl").append({"kind": "b"})
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert kinds == ["a", "b"]

"""Rounds whose aggregation loses reasons: marked, not chosen, and the end of a run that says so."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedfm.arrays import Arrays
from fedfm.config.study import Study
from fedfm.errors import EngineError
from fedfm.explain.audit import Audit
from server_app.reasons.reference_audit import Loaded
from server_app.report import events, explanations
from server_app.report.judgements import FinalChosen
from server_app.report.summary import summarise
from server_app.report.verdict import verdict
from tests.unit.server_app.federation import Hospital, federate


class Planted:
    """Stands for the audit of a model whose comprehensiveness a test decides, round by round."""

    levels: Iterator[float] = iter(())

    def __init__(self, study: Study) -> None:
        self.at = np.random.default_rng(1).normal(0, 0.1, 32)

    def standardise(self, statistics: Arrays) -> None:
        pass

    def look(self, loaded: Loaded, *, randomised: bool = False) -> Audit:
        level = next(self.levels)
        sums = {"comprehensiveness": level + self.at, "sufficiency": -level + self.at, "random_order": self.at}
        return Audit(sums, [{}] * 32, np.zeros((32, 0)), np.zeros((32, 0), bool))

    def keep(self, loaded: Loaded, found: Audit) -> None:
        pass

    def leanings(self, loaded: Loaded) -> dict[str, Any]:
        return {}

    def told(self, number: int, site: str, found: Audit) -> explanations.ReferenceExplained:
        return explanations.ReferenceExplained(number, site, 32, {}, {})

    def terms(self, number: int, loaded: Loaded, found: Audit) -> None:
        return None

    def agreed(self, number: int, audits: Any) -> None:
        return None

    def overlaps(self, audits: Any) -> dict[str, Any]:
        return {}


def planted(monkeypatch: pytest.MonkeyPatch, rounds: int, *, lost: range) -> list[str]:
    """Let the global model lose its reasons in these rounds; the two sites are looked at like it."""
    full = {1, *range(5, rounds + 1, 5), rounds}
    levels = [
        0.0 if number in lost else 0.4 for number in range(1, rounds + 1) for _ in range(3 if number in full else 1)
    ]
    monkeypatch.setattr(Planted, "levels", iter(levels))
    monkeypatch.setattr("server_app.reasons.explaining.ReferenceAudit", Planted)
    return [f"rounds={rounds}", "explainability.reference=/public.csv"]


TWO = {"a1": Hospital(), "b1": Hospital()}


def marks(outcome: Any) -> list[int]:
    return [event.round for event in outcome.of(explanations.ReasonsLost)]


def test_lost_reasons_mark_the_rounds_until_they_are_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = federate(TWO, tmp_path, *planted(monkeypatch, 8, lost=range(5, 8)))
    assert outcome.error is None
    assert marks(outcome) == [5, 6, 7]
    first = outcome.of(explanations.ReasonsLost)[0]
    assert first.gates == ("regression:comprehensiveness", "regression:sufficiency")
    assert first.reasons == ("comprehensiveness fell in rounds 5 and 6", "sufficiency fell in rounds 5 and 6")
    judged = [gate for gate in outcome.of(explanations.GateJudged) if gate.gate == "regression:comprehensiveness"]
    assert [gate.round for gate in judged if gate.passed is None] == [1, 2, 3]  # 2 of warm-up, 1 with none before
    assert [gate.round for gate in judged if gate.passed is False] == [5, 6, 7]


def test_nothing_is_marked_in_the_warm_up_or_for_one_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    early = federate(TWO, tmp_path / "a", *planted(monkeypatch, 3, lost=range(2, 4)), "explainability.warm_up=1.0")
    assert not marks(early)
    assert all(gate.passed is None for gate in early.of(explanations.GateJudged))
    once = federate(TWO, tmp_path / "b", *planted(monkeypatch, 5, lost=range(4, 5)))
    assert not marks(once)


def test_a_run_that_stops_over_lost_reasons_keeps_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = planted(monkeypatch, 9, lost=range(5, 10))
    outcome = federate(TWO, tmp_path, *overrides, "explainability.action=stop")
    assert isinstance(outcome.error, EngineError)
    assert outcome.error.code == "ROUND-E031"
    assert marks(outcome) == [5, 6]
    assert json.loads((tmp_path / "checkpoint.json").read_text())["round"] == 6
    assert (tmp_path / "checkpoint-0006.safetensors").is_file()


def test_marked_rounds_are_not_chosen_while_others_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = planted(monkeypatch, 6, lost=range(5, 7))
    outcome = federate(TWO, tmp_path, *overrides, "fairness.final=best")
    assert outcome.error is None
    (final,) = outcome.of(FinalChosen)
    assert final.round == 4  # all losses are equal, and the latest of equals is taken
    assert final.reasons[0] == "rounds 5, 6 left out: aggregation has lost reasons there"


def test_nothing_is_looked_at_without_a_reference_set(tmp_path: Path) -> None:
    outcome = federate(TWO, tmp_path, "rounds=1")
    assert not outcome.of(explanations.GateJudged)
    assert not outcome.of(explanations.ReferenceExplained)
    assert math.isfinite(outcome.of(events.RoundCombined)[0].seconds)


def test_the_verdict_says_where_reasons_were_lost_and_whether_the_result_is_of_such_a_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = federate(TWO, tmp_path / "last", *planted(monkeypatch, 6, lost=range(5, 7)))
    said = " ".join(verdict(summarise(outcome.happened)).reasons)
    assert "has lost reasons that earlier models had, in rounds 5, 6; the result is the model of one of them." in said
    back = federate(TWO, tmp_path / "back", *planted(monkeypatch, 7, lost=range(4, 6)))
    said = " ".join(verdict(summarise(back.happened)).reasons)
    assert "in rounds 4, 5; the result is the model of another round." in said

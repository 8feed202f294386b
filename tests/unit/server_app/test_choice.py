"""Which round's model is the result: decided by audit patients alone, and evaluated once more."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedfm.arrays import Arrays, from_bytes
from fedfm.metrics.performance import Estimate
from fedfm.wire import EvaluateReply
from server_app.checkpoints import EVALUATED, Checkpoint, keep_checkpoint, keep_only, take_checkpoint
from server_app.choice import Judged, choose
from server_app.combining.received import Combined, Received
from server_app.combining.rules import COMBINERS, linear
from server_app.report import events
from server_app.report.judgements import FinalChosen
from tests.unit.server_app.federation import PARAMETERS, Hospital, Outcome, federate

SITES = frozenset({"a", "b"})


def near(value: float, half: float = 0.1) -> Estimate:
    return Estimate(value, value - half, value + half)


def judged(number: int, loss: float, worst: float | None = None, gap: float | None = None) -> Judged:
    return Judged(number, SITES, near(loss), None if worst is None else near(worst), gap)


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [
        ([judged(1, 0.5, 0.6), judged(2, 0.9, 0.5), judged(3, 0.8, 0.5)], 1),  # the loss over all sites decides first
        ([judged(1, 0.5, 0.9), judged(2, 0.55, 0.6), judged(3, 0.8, 0.5)], 2),  # within it, the worst site's
        ([judged(1, 0.5, 0.6, 0.3), judged(2, 0.55, 0.65, 0.1), judged(3, 0.5, 0.9, 0.0)], 2),  # then the gap
        ([judged(1, 0.5, 0.6, 0.1), judged(2, 0.55, 0.65), judged(3, 0.9, 0.9)], 1),  # unknown in one: not compared
        ([judged(1, 0.5), judged(2, 0.5), judged(3, 0.5)], 3),  # nothing tells them apart: the latest
        ([judged(3, 0.5, 0.6), judged(1, 0.5, 0.6)], 3),  # in whatever order
    ],
)
def test_the_order_of_the_decision(rounds: list[Judged], expected: int) -> None:
    chosen = choose(rounds, last=9)
    assert chosen.round == expected
    assert len(chosen.reasons) >= 2


def test_rounds_that_fewer_sites_have_judged_are_not_compared() -> None:
    alone = Judged(2, ("a",), near(0.1), None)  # the site that fares badly was away
    assert choose([judged(1, 0.5), alone, judged(3, 0.9)], last=3).round == 1


def test_without_any_loss_the_last_round_is_taken() -> None:
    unknown = Judged(1, (), None)
    assert choose([unknown], last=5) == FinalChosen(5, choose([], last=5).reasons)


LOSSES = {1: 8.0, 2: 2.0, 3: 9.0, 4: 9.5}
"""Round to the sum of the clipped losses of ten audit patients: round 2 is planted as the best."""


def planted(reply: EvaluateReply) -> EvaluateReply:
    """Test patients fare best in round 4, audit patients in round 2."""
    cells = np.array([[90.0, 0.0], [0.0, 90.0]]) if reply.round == 4 else np.array([[30.0, 60.0], [60.0, 30.0]])
    wide = np.repeat(cells / (reply.cells.shape[1] / 2), reply.cells.shape[1] // 2, axis=1)
    losses = {"loss": 10 * LOSSES.get(reply.round, 5.0), "patients": 100.0}
    return replace(reply, cells=wide, losses=losses, losses_sd=0.5)


def chosen_of(folder: Path, *overrides: str, evaluate: Callable[[EvaluateReply], EvaluateReply] = planted) -> Outcome:
    hospitals = {name: Hospital(patients=180, evaluate=evaluate) for name in ("a1", "b1")}
    return federate(hospitals, folder, "rounds=4", *overrides)


def parameters_after(number: int) -> Arrays:
    return {name: array + np.float32(number) for name, array in PARAMETERS.items()}


def test_a_better_earlier_round_is_restored_and_evaluated_as_the_closing_one(tmp_path: Path) -> None:
    outcome = chosen_of(tmp_path, "fairness.final=best")
    assert outcome.error is None
    (told,) = outcome.of(FinalChosen)
    assert told.round == 2  # though test patients fare best in round 4
    assert outcome.parameters is not None
    for name, array in parameters_after(2).items():
        np.testing.assert_array_equal(outcome.parameters[name], array)
    assert [event.round for event in outcome.of(events.ModelEvaluated)] == [1, 2, 3, 4, 5]
    assert [event.round for event in outcome.of(events.RoundStarted)] == [1, 2, 3, 4]
    assert {path.name for path in tmp_path.glob("checkpoint*")} == {
        "checkpoint.json",
        "checkpoint-0002.json",
        "checkpoint-0002-evaluated-memory.json",
        "checkpoint-0002-evaluated-rules.json",
        "checkpoint-0002.safetensors",
    }
    kept = from_bytes((tmp_path / "checkpoint-0002.safetensors").read_bytes())
    assert all((kept[name] == outcome.parameters[name]).all() for name in kept)


def test_gaps_of_several_rounds_are_not_mixed(tmp_path: Path) -> None:
    """Round 2 has the smallest gap; averaged with those before, it would seem to be round 3's. Round 4 fares worse."""

    def apart(reply: EvaluateReply) -> EvaluateReply:
        found = {1: 36.0, 2: 24.0, 3: 28.0}.get(reply.round)
        tables = {"x": found, "y": 20.0} if found else {}
        groups = {f"sex={name}": np.array([[40.0, 0.0], [40.0 - k, k]]) for name, k in tables.items()}
        losses = {"loss": 90.0 if reply.round == 4 else 50.0, "patients": 100.0}
        return replace(planted(reply), losses=losses, audit_groups=groups, audit_groups_sd=1.0)

    overrides = ("fairness.final=best", "weighting=fairfed")
    outcome = chosen_of(tmp_path, *overrides, evaluate=apart)
    assert outcome.of(events.SiteLeftOut) == []
    (told,) = outcome.of(FinalChosen)
    assert "the smallest gap between groups of audit patients" in told.reasons[-1]
    assert told.round == 2


def test_the_sites_are_asked_about_the_model_that_was_chosen(tmp_path: Path) -> None:
    hospitals = {name: Hospital(patients=180, evaluate=planted) for name in ("a1", "b1")}
    federate(hospitals, tmp_path, "rounds=4", "fairness.final=best")
    closing = [request for request in hospitals["a1"].asked if request.round == 5]
    assert len(closing) == 1
    np.testing.assert_array_equal(closing[0].parameters["head.bias"], parameters_after(2)["head.bias"])


def test_what_the_sites_load_beside_is_that_of_the_chosen_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refreshed(received: Received) -> Combined:
        after = {"frozen.a": received.frozen.get("frozen.a", np.zeros(2, np.float32)) + np.float32(1)}
        return replace(linear(received), frozen=after)

    monkeypatch.setitem(COMBINERS, "linear", refreshed)  # type: ignore[misc]
    hospitals = {name: Hospital(patients=180, evaluate=planted) for name in ("a1", "b1")}
    outcome = federate(hospitals, tmp_path, "rounds=4", "fairness.final=best")
    assert outcome.error is None
    evaluated = {request.round: request for request in hospitals["a1"].asked if request.parameters}
    assert evaluated[4].frozen["frozen.a"].tolist() == [4.0, 4.0]
    assert evaluated[5].frozen["frozen.a"].tolist() == [2.0, 2.0]


def test_what_test_patients_say_changes_nothing(tmp_path: Path) -> None:
    def turned(reply: EvaluateReply) -> EvaluateReply:
        return replace(planted(reply), cells=planted(reply).cells[:, ::-1].copy())

    rounds = []
    for name, evaluate in (("one", planted), ("two", turned)):
        (tmp_path / name).mkdir()
        rounds.append(chosen_of(tmp_path / name, "fairness.final=best", evaluate=evaluate).of(FinalChosen))
    assert rounds[0] == rounds[1]


def test_the_last_model_is_the_result_where_nobody_asks(tmp_path: Path) -> None:
    outcome = chosen_of(tmp_path, "fairness.final=last")
    assert outcome.of(FinalChosen) == []
    assert outcome.parameters is not None
    np.testing.assert_array_equal(outcome.parameters["head.bias"], parameters_after(4)["head.bias"])
    assert [event.round for event in outcome.of(events.ModelEvaluated)] == [1, 2, 3, 4]
    names = {path.name for path in tmp_path.glob("checkpoint-*")}
    assert names == {
        "checkpoint-0004.json",
        "checkpoint-0004-evaluated-memory.json",
        "checkpoint-0004-evaluated-rules.json",
        "checkpoint-0004.safetensors",
    }


def test_a_study_without_a_single_told_loss_ends_with_the_last_round(tmp_path: Path) -> None:
    def silent(reply: EvaluateReply) -> EvaluateReply:
        return replace(planted(reply), losses={"loss": 0.0, "patients": 0.1}, losses_sd=5.0)

    outcome = chosen_of(tmp_path, "fairness.final=best", evaluate=silent)
    (told,) = outcome.of(FinalChosen)
    assert told.round == 4
    assert "no loss" in told.reasons[0]
    assert outcome.parameters is not None
    np.testing.assert_array_equal(outcome.parameters["head.bias"], parameters_after(4)["head.bias"])


def test_checkpoints_of_candidates_stay_until_one_is_taken(tmp_path: Path) -> None:
    for number in (1, 2, 3, 4, 5):
        rules = {"rules.json": str(number).encode()}
        keep_checkpoint(tmp_path, Checkpoint(number, EVALUATED, parameters_after(number), rules), others=(1, 3))
    assert len(list(tmp_path.glob("checkpoint-*"))) == 12  # 1 and 3, and the last two; three files each
    taken = take_checkpoint(tmp_path, round_number=3)
    np.testing.assert_array_equal(taken.parameters["head.bias"], parameters_after(3)["head.bias"])
    assert taken.beside == {"rules.json": b"3"}
    keep_only(tmp_path, round_number=3)
    names = {path.name for path in tmp_path.glob("checkpoint-*")}
    assert names == {"checkpoint-0003.json", "checkpoint-0003-evaluated-rules.json", "checkpoint-0003.safetensors"}


def test_marked_rounds_are_taken_only_where_no_other_is_left() -> None:
    rounds = [judged(1, 0.9), judged(2, 0.5), judged(3, 0.4)]
    found = choose(rounds, last=3, marked={2, 3})
    assert found.round == 1
    assert found.reasons[0] == "rounds 2, 3 left out: aggregation has lost reasons there"
    every = choose(rounds, last=3, marked={1, 2, 3, 7})
    assert every.round == choose(rounds, last=3).round == 3
    assert every.reasons[0] == "rounds 1, 2, 3: reasons are lost in each, so that the marks decide nothing"
    unknown = [Judged(number, (), None) for number in (1, 2)]
    assert choose(unknown, last=2, marked={2}).round == 1
    assert choose(unknown, last=2, marked={1, 2}).round == 2
    assert choose(rounds, last=3, marked={9}) == choose(rounds, last=3)

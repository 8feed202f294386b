"""One site lies about any number of its answers: it is left out by name, and the others go on without it."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedfm import wire, wire_records
from fedfm.metrics.counts import LOSS_CAP
from server_app.report import events
from server_app.report.page import write_report
from server_app.screening import MAX_UPDATE
from tests.unit.server_app.federation import PARAMETERS, SPENT, Hospital, Outcome, changed, federate

Lie = Callable[[Any], Any]

HONEST = ("a1", "c1", "d1")
ACCOUNTS: dict[str, Lie] = {
    **{f"seconds {value:g}": changed(seconds=value) for value in (-math.inf, math.inf, -1.0, 1e308)},
    **{
        f"{field} {value:g}": changed(privacy=replace(SPENT, **{field: value}))
        for field in ("train", "audit", "test", "run", "planned")
        for value in (-math.inf, -5.0, 1e308)
    },
    **{f"delta {value:g}": changed(privacy=replace(SPENT, delta=value)) for value in (-1.0, 0.0, 1.0, math.inf)},
    **{f"noise {v:g}": changed(privacy=replace(SPENT, noise_multiplier=v)) for v in (-0.1, math.inf, 1e308)},
    "unit": changed(privacy=replace(SPENT, unit="nobody")),
}


def entry(value: float) -> Lie:
    def lie(reply: wire.TrainReply) -> wire.TrainReply:
        update = {name: array.copy() for name, array in reply.update.items()}
        update["head.bias"][1] = value
        return replace(reply, update=update)

    return lie


def cells(change: Callable[[Any], Any], **more: Any) -> Lie:
    return lambda reply: replace(reply, cells=change(reply.cells.copy()), **more)


def first(value: float) -> Callable[[Any], Any]:
    def set_first(table: Any) -> Any:
        table[0, 0] = value
        return table

    return set_first


UPDATES = {f"entry {value:g}": entry(value) for value in (3e38, -3e38, math.inf, math.nan, 1.1 * MAX_UPDATE)}
COUNTS = {
    "huge cells": cells(lambda table: table + 1e200),
    "huge negative cells": cells(lambda table: table - 1e6),
    "one huge cell": cells(first(1e308)),
    "one cell below the noise": cells(first(-6.0)),
    "a sum below the noise": cells(lambda table: table * 0 - 4.0),
    "more patients than ten for each declared": cells(lambda table: table + 40.0),
    "an infinite cell": cells(first(math.inf)),
    "a cell that is no number": cells(first(math.nan)),
    **{f"cells_sd {value:g}": changed(cells_sd=value) for value in (1e308, 2e4, -1.0, math.inf)},
}


def groups(tables: dict[str, Any]) -> Lie:
    return lambda reply: replace(reply, groups={**reply.groups, **tables})


TABLE = np.full((2, 2), 5.0)
MANY = {f"sex={number}": TABLE * 0 for number in range(60)}
GROUPS: dict[str, tuple[Lie, str]] = {
    "another attribute": (groups({"ward=a": TABLE}), "ROUND-E014"),
    "an attribute and no group": (groups({"sex=": TABLE}), "ROUND-E014"),
    "no attribute": (groups({"female": TABLE}), "ROUND-E014"),
    "a name without end": (groups({"sex=" + "x" * 100_000: TABLE}), "ROUND-E014"),
    "another shape": (groups({"sex=male": np.full((2, 3), 5.0)}), "ROUND-E014"),
    "a vector": (groups({"sex=male": np.full(4, 5.0)}), "ROUND-E014"),
    "score bins that were not asked for": (groups({"sex=male": np.full((2, 10), 5.0)}), "ROUND-E014"),
    "an intersection that was not asked for": (groups({"sex*age_band=male*old": TABLE}), "ROUND-E014"),
    "groups without end": (groups(MANY), "ROUND-E015"),
    "a huge count": (groups({"sex=male": TABLE * 1e300}), "ROUND-E015"),
    "a count below the noise": (groups({"sex=male": TABLE - 11.0}), "ROUND-E015"),
    "a count that is no number": (groups({"sex=male": TABLE * math.nan}), "ROUND-E015"),
    "an infinite count": (groups({"sex=male": TABLE * math.inf}), "ROUND-E015"),
    "an attribute of too many patients": (
        groups({f"sex={number}": TABLE * 25 for number in range(3)}),
        "ROUND-E015",
    ),
    **{f"groups_sd {value:g}": (changed(groups_sd=value), "ROUND-E015") for value in (-1.0, 2e4, math.inf, 1e308)},
}


def losses(**change: float) -> Lie:
    return lambda reply: replace(reply, losses={**reply.losses, **change})


LOSSES: dict[str, tuple[Lie, str]] = {
    "another sum": (losses(margin=1.0), "ROUND-E014"),
    "one sum of two": (changed(losses={"loss": 1.0}), "ROUND-E014"),
    **{f"loss {value:g}": (losses(loss=value), "ROUND-E015") for value in (-6.0, 16.0, 1e308, -math.inf)},
    **{f"patients {value:g}": (losses(patients=value), "ROUND-E015") for value in (-6.0, 700.0, 1e308, math.inf)},
    **{f"losses_sd {value:g}": (changed(losses_sd=value), "ROUND-E015") for value in (-1.0, 2e4, math.inf, 1e308)},
}


def alone(counts: NDArray[np.float64], sd: float = 0.5) -> Lie:
    return lambda reply: replace(reply, alone=counts, alone_sd=sd)


TEN = np.full((2, 10), 3.0)
OF_ALONE: dict[str, tuple[Lie, str]] = {
    "another shape": (alone(np.full((2, 2), 3.0)), "ROUND-E014"),
    "not a number": (alone(np.full((2, 10), math.nan)), "ROUND-E015"),
    "more than such a cohort": (alone(TEN * 20), "ROUND-E015"),
    "less than nothing": (alone(TEN - 9), "ROUND-E015"),
    **{f"alone_sd {value:g}": (alone(TEN, value), "ROUND-E015") for value in (-1.0, 2e4, math.inf)},
}


def goes_on_without_b1(outcome: Outcome, *, phase: str, code: str) -> None:
    assert outcome.error is None
    (left,) = outcome.of(events.SiteLeftOut)
    assert (left.site, left.phase, left.code) == ("b1", phase, code)
    write_report(outcome.folder)
    assert outcome.parameters is not None
    np.testing.assert_allclose(outcome.parameters["head.bias"], PARAMETERS["head.bias"] + 1)
    (together,) = outcome.of(events.ModelEvaluated)
    assert set(HONEST) <= set(together.sites)
    assert together.performance.patients.value == 60 * len(together.sites)


def four(liar: Hospital) -> dict[str, Hospital]:
    return {"b1": liar, **{name: Hospital() for name in HONEST}}


@pytest.mark.parametrize("lie", [*UPDATES, *ACCOUNTS])
def test_a_lie_about_training_costs_only_the_liar(lie: str, tmp_path: Path) -> None:
    liar = Hospital(train=(UPDATES | ACCOUNTS)[lie])
    outcome = federate(four(liar), tmp_path, "rounds=1")
    code = "ROUND-E013" if lie in UPDATES else "ROUND-E019"
    goes_on_without_b1(outcome, phase="training", code=code)
    assert set(outcome.of(events.RoundCombined)[0].weights) == set(HONEST)


@pytest.mark.parametrize("lie", [*COUNTS, *ACCOUNTS])
def test_a_lie_about_counts_costs_only_the_liar(lie: str, tmp_path: Path) -> None:
    outcome = federate(four(Hospital(evaluate=(COUNTS | ACCOUNTS)[lie])), tmp_path, "rounds=1")
    goes_on_without_b1(outcome, phase="evaluation", code="ROUND-E015" if lie in COUNTS else "ROUND-E019")
    assert outcome.of(events.ModelEvaluated)[0].sites == HONEST


@pytest.mark.parametrize("lie", OF_ALONE)
def test_a_lie_about_the_model_trained_alone_costs_only_the_liar(lie: str, tmp_path: Path) -> None:
    change, code = OF_ALONE[lie]
    outcome = federate(four(Hospital(evaluate=change)), tmp_path, "rounds=1", "baseline=alone")
    goes_on_without_b1(outcome, phase="evaluation", code=code)


def test_counts_of_a_model_trained_alone_are_refused_where_nobody_asked_and_may_be_withheld(tmp_path: Path) -> None:
    unasked = federate(four(Hospital(evaluate=alone(TEN))), tmp_path / "unasked", "rounds=1")
    goes_on_without_b1(unasked, phase="evaluation", code="ROUND-E014")
    for name, counts in (("honest", TEN), ("withheld", np.zeros((2, 0)))):
        outcome = federate(four(Hospital(evaluate=alone(counts))), tmp_path / name, "rounds=1", "baseline=alone")
        assert not outcome.of(events.SiteLeftOut)
    early = federate(
        four(Hospital(evaluate=lambda reply: alone(TEN)(reply) if reply.round == 1 else reply)),
        tmp_path / "early",
        *("rounds=2", "baseline=alone"),
    )
    assert [(left.site, left.code) for left in early.of(events.SiteLeftOut)] == [("b1", "ROUND-E014")]


@pytest.mark.parametrize("lie", [*GROUPS, *LOSSES])
def test_a_lie_about_groups_or_losses_costs_only_the_liar(lie: str, tmp_path: Path) -> None:
    change, code = (GROUPS | LOSSES)[lie]
    outcome = federate(four(Hospital(evaluate=change)), tmp_path, "rounds=1")
    goes_on_without_b1(outcome, phase="evaluation", code=code)
    (grouped,), (lost,) = outcome.of(events.GroupsEvaluated), outcome.of(events.LossMeasured)
    assert set(grouped.groups) == {"sex=female", "sex=male"}
    assert grouped.groups["sex=male"].patients.value == 3 * 30
    assert set(lost.sites) == set(HONEST)
    assert lost.together.value == pytest.approx(LOSS_CAP * 0.4)


CROSSED = "sex*age_band=male*"
FINE = np.full((2, 6), 1.0)
BINNED: dict[str, tuple[dict[str, Any], str]] = {
    "predicted classes in place of bins": ({"sex=male": TABLE}, "ROUND-E014"),
    "other bins": ({"sex=male": np.full((2, 4), 1.0)}, "ROUND-E014"),
    "an intersection by predicted class": ({f"{CROSSED}old": TABLE}, "ROUND-E014"),
    "an intersection turned round": ({"age_band*sex=old*male": FINE}, "ROUND-E014"),
    "an intersection and no group": ({CROSSED[:-5]: FINE}, "ROUND-E014"),
    "a name without end": ({CROSSED + "x" * 200: FINE}, "ROUND-E014"),
    "intersections without end": ({f"{CROSSED}{number}": FINE * 0 for number in range(1100)}, "ROUND-E015"),
    "an intersection of too many patients": ({f"{CROSSED}{n}": FINE * 40 for n in range(3)}, "ROUND-E015"),
    "a bin below the noise": ({f"{CROSSED}old": FINE - 7.0}, "ROUND-E015"),
    "a bin that is no number": ({f"{CROSSED}old": FINE * math.nan}, "ROUND-E015"),
}


@pytest.mark.parametrize("lie", [*BINNED, "none"])
def test_a_lie_about_bins_and_intersections_costs_only_the_liar(lie: str, tmp_path: Path) -> None:
    honest_tables = {"sex=male": FINE * 4, f"{CROSSED}old": FINE * 3, f"{CROSSED}young": FINE}
    tables, code = BINNED.get(lie, (honest_tables, ""))
    hospitals = {name: Hospital(evaluate=changed(groups=honest_tables)) for name in HONEST}
    liar = Hospital(evaluate=changed(groups={**honest_tables, **tables}))
    overrides = ("rounds=1", "task.intersections=[sex*age_band]", "evaluation.group_bins=6")
    outcome = federate({**hospitals, "b1": liar}, tmp_path, *overrides)
    if lie != "none":
        goes_on_without_b1(outcome, phase="evaluation", code=code)
    (grouped,) = outcome.of(events.GroupsEvaluated)
    assert set(grouped.groups) == set(honest_tables)
    assert grouped.groups["sex=male"].patients.value == 48 * (3 + (lie == "none"))
    assert grouped.groups["sex=male"].auroc is not None
    assert set(outcome.of(events.GapsEvaluated)[0].pooled) == {"sex", "sex*age_band"}


def audit(tables: dict[str, Any], **more: Any) -> Lie:
    return changed(audit_groups=tables, **more)


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        (audit({"sex=male": np.full((2, 4), 1.0)}), "ROUND-E014"),
        (audit({"age_band=old": TABLE}), "ROUND-E014"),
        (audit({"sex=male": TABLE * 1e9}), "ROUND-E015"),
        (audit({"sex=male": TABLE * math.nan}), "ROUND-E015"),
        (audit({"sex=male": TABLE}, audit_groups_sd=math.inf), "ROUND-E015"),
    ],
)
def test_a_lie_about_audit_patients_groups_costs_only_the_liar(
    lie: Lie, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server_app.answers.audit_attribute", lambda _: "sex")
    outcome = federate(four(Hospital(evaluate=lie)), tmp_path, "rounds=2")
    left = [(event.site, event.code, event.round) for event in outcome.of(events.SiteLeftOut)]
    assert left[0] == ("b1", code, 1)
    assert {site for site, _, _ in left} == {"b1"}
    assert outcome.error is None


@pytest.mark.parametrize(
    "override", ["evaluation.groups=false", "task.groups=[]", "evaluation.audit_loss=false", "rounds=2"]
)
def test_what_was_not_asked_for_is_not_taken(override: str, tmp_path: Path) -> None:
    """Counts by groups are asked for in the last round only."""

    def answers(reply: wire.EvaluateReply) -> wire.EvaluateReply:
        return replace(reply, groups={"sex=female": TABLE}, groups_sd=0.5)

    hospitals = {name: Hospital(evaluate=changed(groups={}, losses={})) for name in HONEST}
    liar = Hospital() if "loss" in override else Hospital(evaluate=answers)
    outcome = federate({**hospitals, "b1": liar}, tmp_path, "rounds=1", "weighting=cohort", override)
    left = outcome.of(events.SiteLeftOut)
    assert {(event.site, event.phase, event.code, event.round) for event in left} == {
        ("b1", "evaluation", "ROUND-E014", 1)
    }
    assert not [event for event in outcome.of(events.LossMeasured) if event.round == 1 and "b1" in event.sites]


JOINING = {
    **{name: (lie, "ROUND-E019") for name, lie in ACCOUNTS.items() if not name.startswith("seconds")},
    **{f"cohort {n}": (changed(declared_patients=n), "ROUND-E012") for n in (-1, 0, 10**9)},
}


@pytest.mark.parametrize("lie", JOINING)
def test_a_lie_at_the_start_costs_only_the_liar(lie: str, tmp_path: Path) -> None:
    change, code = JOINING[lie]
    outcome = federate(four(Hospital(describe=change)), tmp_path, "rounds=1")
    goes_on_without_b1(outcome, phase="start", code=code)
    assert {event.site for event in outcome.of(events.SiteJoined)} == set(HONEST)


def test_an_unprotected_site_may_say_infinity(tmp_path: Path) -> None:
    open_site = replace(
        SPENT, unit="none", noise_multiplier=0.0, **dict.fromkeys(("train", "run", "planned"), math.inf)
    )
    account = changed(privacy=open_site)
    outcome = federate(four(Hospital(describe=account, train=account, evaluate=account)), tmp_path, "rounds=1")
    assert outcome.error is None
    assert not outcome.of(events.SiteLeftOut)


def test_noise_that_an_honest_site_may_draw_passes(tmp_path: Path) -> None:
    noisy = cells(lambda table: table - 40.0 * (np.indices(table.shape).sum(axis=0) % 2), cells_sd=20.0)
    outcome = federate(four(Hospital(evaluate=noisy)), tmp_path, "rounds=1")
    assert not outcome.of(events.SiteLeftOut)


class Breaks:
    """Stands for any function that meets what nobody foresaw, in the answer of one site."""

    def __init__(self, usual: Callable[..., Any]) -> None:
        self.usual = usual

    def __call__(self, content: Any, *rest: Any, **more: Any) -> Any:
        reply = self.usual(content, *rest, **more)
        if reply.site == "b1":
            raise ZeroDivisionError("Jane Doe, MRN 12345")
        return reply


@pytest.mark.parametrize(
    ("module", "name", "phase"),
    [
        ("server_app.answers", "train_reply_from_records", "training"),
        ("server_app.answers", "evaluate_reply_from_records", "evaluation"),
        ("server_app.roster", "description_from_records", "start"),
    ],
)
def test_whatever_breaks_over_one_answer_costs_only_that_site(
    module: str, name: str, phase: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{module}.{name}", Breaks(getattr(wire_records, name)))
    outcome = federate(four(Hospital()), tmp_path, "rounds=1")
    goes_on_without_b1(outcome, phase=phase, code="ROUND-E018")
    assert outcome.of(events.SiteLeftOut)[0].reason == "unreadable answer (ZeroDivisionError)"
    assert "Jane Doe" not in (tmp_path / "events.jsonl").read_text()

"""One site states a noise that it cannot have: it neither ends the run nor switches the rule off for the others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfm.errors import EngineError
from server_app.report import events
from server_app.weighting.guards import guarded, least, most, shares
from server_app.weighting.heard import Heard, Signal, SiteReport
from server_app.weighting.precision import between_sites, shrunk
from tests.unit.server_app.federation import Hospital, Outcome, changed, federate
from tests.unit.server_app.weighting_cases import BY_SIGNAL, told, weigh

FOUR = ("a1", "b1", "c1", "d1")
OPEN = ("rounds=2", "privacy=none")


def by_loss(folder: Path, noise: tuple[float, ...], *overrides: str) -> Outcome:
    """Sites of losses 1.2, 0.6, 0.8 and 1.0, each with its stated noise."""
    sums = [{"loss": lost, "patients": 10.0} for lost in (6.0, 3.0, 4.0, 5.0)]
    answers = zip(FOUR, sums, noise, strict=True)
    hospitals = {name: Hospital(evaluate=changed(losses=told_, losses_sd=sd)) for name, told_, sd in answers}
    return federate(hospitals, folder, "weighting=power", *overrides)


def by_gap(folder: Path, noise: tuple[float, ...], *overrides: str) -> Outcome:
    """Sites of unlike gaps, each with its stated noise."""

    def counted(gap: float, sd: float) -> Hospital:
        female, male = ([[40.0, 10.0], [20.0 - part, 20.0 + part]] for part in (5 * gap, -5 * gap))
        groups = {"sex=female": np.array(female), "sex=male": np.array(male)}
        return Hospital(evaluate=changed(losses={}, groups={}, audit_groups=groups, audit_groups_sd=sd))

    hospitals = {name: counted(gap, sd) for name, gap, sd in zip(FOUR, (0.0, 0.5, 1.0, 3.0), noise, strict=True)}
    return federate(hospitals, folder, "weighting=fairfed", "evaluation.audit_loss=false", *overrides)


def second_round(outcome: Outcome) -> Any:
    """Return what the rule made of the first evaluation."""
    assert outcome.error is None
    assert outcome.parameters is not None
    assert all(np.isfinite(array).all() for array in outcome.parameters.values())
    return outcome.of(events.RoundCombined)[1]


@pytest.mark.parametrize(("others", "sd"), [(0.5, 1e-12), (0.5, 1e-30), (0.0, 1e-200)])
@pytest.mark.parametrize("federation", [by_loss, by_gap])
def test_next_to_no_noise_counts_as_none(federation: Any, others: float, sd: float, tmp_path: Path) -> None:
    found = second_round(federation(tmp_path / "tiny", (others, others, others, sd), *OPEN))
    assert found.fallen_back == ()
    assert max(found.weights.values()) > 1.02 * min(found.weights.values())
    like = second_round(federation(tmp_path / "like", (others, others, others, 0.0), *OPEN))
    assert found.weights == pytest.approx(like.weights, rel=1e-4)


@pytest.mark.parametrize("sd", [0.0, 0.04])
@pytest.mark.parametrize("federation", [by_loss, by_gap])
def test_less_noise_than_any_plan_has_is_refused_in_a_private_study(federation: Any, sd: float, tmp_path: Path) -> None:
    outcome = federation(tmp_path, (0.5, 0.5, 0.5, sd), "rounds=2")
    assert outcome.error is None
    left = {(event.site, event.phase, event.code) for event in outcome.of(events.SiteLeftOut) if event.round == 1}
    assert left == {("d1", "evaluation", "ROUND-E015")}
    assert outcome.of(events.RoundCombined)[1].fallen_back == ("d1",)
    assert outcome.of(events.RoundCombined)[1].weights["d1"] == 0.25


def test_the_least_noise_that_is_planned_passes(tmp_path: Path) -> None:
    outcome = by_loss(tmp_path, (0.5, 0.5, 0.5, 0.05), "rounds=2")
    assert not outcome.of(events.SiteLeftOut)


stated = st.one_of(st.just(0.0), st.floats(0, 1e4), st.integers(-320, 4).map(lambda power: 10.0**power))


@settings(max_examples=100)
@given(drawn=st.lists(st.tuples(st.floats(0, 2), stated), min_size=1, max_size=6), case=st.sampled_from(BY_SIGNAL))
def test_every_rule_gives_finite_weights_within_the_guards(drawn: list[tuple[float, float]], case: str) -> None:
    reports = [
        SiteReport(f"s{place}", 100 + place, loss=Signal(value, sd), gap=Signal(value - 1, sd))
        for place, (value, sd) in enumerate(drawn)
    ]
    weighed = weigh(case, Heard(reports, gap=Signal(0.1, 0.02)))
    share = shares(reports)
    assert weighed.fallen_back == ()
    assert weighed.weights.sum() == pytest.approx(1)
    assert (weighed.weights >= 0.999 * least(share)).all()
    assert (weighed.weights <= 1.001 * most(share)).all()


def test_noise_that_vanishes_is_none() -> None:
    values = np.array([0.1, 0.5, 0.9])
    assert shrunk(values, np.array([0.0, 1e-12, 1e-200]), centre=0.4) is values
    assert between_sites(values, np.array([0.5, 0.5, 1e-200])) == between_sites(values, np.array([0.5, 0.5, 0.0]))
    assert between_sites(values[:1], np.array([0.5])) == 0


def test_what_a_rule_cannot_make_a_weight_of_falls_back() -> None:
    def change(share: Any, known: Any) -> Any:
        return np.where(known.nonzero()[0] == 1, np.nan, share * np.arange(1, 1 + len(share)))

    weighed = guarded(told(0.5, 0.5, 0.5), np.ones(3, dtype=bool), change)
    assert weighed.fallen_back == ("b",)
    np.testing.assert_allclose(weighed.weights, [2 / 9, 1 / 3, 4 / 9], rtol=1e-12)


def test_a_model_that_is_not_finite_ends_the_run_and_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server_app.aggregation.added", lambda array, update: array + np.float32(np.nan))
    outcome = federate({name: Hospital() for name in FOUR}, tmp_path, "rounds=1")
    assert isinstance(outcome.error, EngineError)
    assert outcome.error.code == "ROUND-E025"
    assert not list(tmp_path.glob("checkpoint-0001*"))

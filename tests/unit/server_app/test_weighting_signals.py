"""Rules that look at losses, gaps or steps, against closed forms, derivatives and published algorithms."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedfm.metrics.counts import LOSS_CAP
from server_app.weighting.gap import distances, faded, moved
from server_app.weighting.guards import guarded
from server_app.weighting.heard import Heard, Signal, SiteReport
from server_app.weighting.loss import exponentiated, powered, projected, tilted
from server_app.weighting.precision import believed, between_sites, shrunk
from server_app.weighting.steps import length
from tests.unit.server_app.weighting_cases import heards, told, weigh

Vector = NDArray[np.float64]
few = settings(max_examples=40)
HALVES = np.array([0.5, 0.5])
sites = st.integers(2, 8).flatmap(
    lambda size: st.tuples(
        st.lists(st.floats(0.05, 1), min_size=size, max_size=size).map(lambda raw: np.array(raw) / sum(raw)),
        st.lists(st.floats(0.01, 2), min_size=size, max_size=size).map(np.array),
    )
)


def summing_to_one(raw: Vector) -> Vector:
    return raw / raw.sum()


def test_closed_forms_without_guards() -> None:
    one_two = np.array([1.0, 2.0])
    cases = {
        "power": (powered(HALVES, one_two, q=2), [0.2, 0.8]),
        "tilt": (tilted(HALVES, np.array([0.0, 1.0]), t=math.log(2)), [1 / 3, 2 / 3]),
        "afl, inside": (projected(HALVES, np.array([1.0, 3.0]), gamma=0.1), [0.4, 0.6]),
        "afl, at a corner": (projected(HALVES, np.array([0.0, 3.0]), gamma=1.0), [0.0, 1.0]),
        "exponentiated": (exponentiated(HALVES, np.array([0.0, 1.0]), gamma=math.log(3)), [0.25, 0.75]),
        "fairfed": (moved(HALVES, np.array([0.1, 0.3]), beta=1.0), [0.6, 0.4]),
        "fairfed, beyond": (moved(HALVES, np.array([0.1, 0.3]), beta=10.0), [1.5, -0.5]),
        "fairfed, exponential": (faded(HALVES, np.array([0.1, 0.3]), beta=5 * math.log(2)), [2 / 3, 1 / 3]),
    }
    for name, (found, expected) in cases.items():
        np.testing.assert_allclose(summing_to_one(found), expected, rtol=1e-12, atol=1e-15, err_msg=name)


def test_closed_forms_within_guards() -> None:
    """Of two sites of one half each, none may have more than three quarters."""
    np.testing.assert_allclose(weigh("power", told(1.0, 2.0), q=2).weights, [0.25, 0.75], rtol=1e-12)
    np.testing.assert_allclose(weigh("power", told(1.0, 2.0), q=1).weights, [1 / 3, 2 / 3], rtol=1e-12)
    np.testing.assert_allclose(weigh("propfair", told(1.0, 2.0), ceiling=3).weights, [1 / 3, 2 / 3], rtol=1e-12)
    np.testing.assert_allclose(
        weigh("fairfed, clipped", told(0.1, 0.3, gap=0.0), beta=10).weights, [0.75, 0.25], rtol=1e-12
    )
    ten = told(*[0.1] * 9, 2.0)
    assert weigh("power", ten, q=50).weights[-1] == pytest.approx(0.3, rel=1e-12)  # three times its tenth


def objective_and_weights() -> dict[str, tuple[Callable[[Vector, Vector], float], Callable[[Vector, Vector], Vector]]]:
    """What a rule makes small, of shares and losses; and its weights."""
    return {
        "q-FFL": (lambda p, f: float((p * f**3).sum() / 3), lambda p, f: powered(p, f, q=2)),
        "TERM": (lambda p, f: float(np.log((p * np.exp(2 * f)).sum()) / 2), lambda p, f: tilted(p, f, t=2)),
        "PropFair": (lambda p, f: float(-(p * np.log(3 - f)).sum()), lambda p, f: p / (3 - f)),
    }


@pytest.mark.parametrize("name", objective_and_weights())
@few
@given(drawn=sites)
def test_weights_are_the_slope_of_the_published_objective(name: str, drawn: tuple[Vector, Vector]) -> None:
    """By central differences in each site's loss: what the chain rule multiplies that site's gradient with."""
    (share, found), (objective, weights) = drawn, objective_and_weights()[name]
    found = np.minimum(found, 1.9)
    step = 1e-5
    slope = np.array([objective(share, found + d) - objective(share, found - d) for d in step * np.eye(len(share))])
    np.testing.assert_allclose(summing_to_one(weights(share, found)), summing_to_one(slope), rtol=1e-4, atol=1e-7)


def test_propfair_is_the_function_that_was_differentiated() -> None:
    heard = told(0.4, 1.0, 1.3, 0.9, 0.2)
    raw = 0.2 / (2.5 - np.array([0.4, 1.0, 1.3, 0.9, 0.2]))
    np.testing.assert_allclose(weigh("propfair", heard, ceiling=2.5).weights, summing_to_one(raw), rtol=1e-12)


@few
@given(drawn=sites, factor=st.floats(0.1, 10), shift=st.floats(-1, 1))
def test_power_is_free_of_scale_and_tilt_of_shift(drawn: tuple[Vector, Vector], factor: float, shift: float) -> None:
    share, found = drawn
    np.testing.assert_allclose(powered(share, factor * found, q=3), powered(share, found, q=3), rtol=1e-9)
    np.testing.assert_allclose(tilted(share, found + shift, t=3), tilted(share, found, t=3), rtol=1e-9)


@few
@given(drawn=sites)
def test_without_guards_the_worst_site_takes_all_in_the_limit(drawn: tuple[Vector, Vector]) -> None:
    share, found = drawn
    found = found + np.arange(len(found)) * 1e-3  # no ties
    worst = found == found.max()
    assume(np.sort(found)[-2] < 0.999 * found.max())
    for raw in (powered(share, found, q=1e5), tilted(share, found, t=1e5), exponentiated(share, found, gamma=1e5)):
        np.testing.assert_allclose(summing_to_one(raw), worst.astype(float), atol=1e-9)
    np.testing.assert_allclose(projected(share, found, gamma=1e6), worst.astype(float), atol=1e-9)


@few
@given(drawn=sites, place=st.integers(0, 7))
def test_a_site_in_two_halves_counts_as_the_whole(drawn: tuple[Vector, Vector], place: int) -> None:
    share, found = drawn
    place %= len(share)
    halves = np.append(share, share[place] / 2)
    halves[place] /= 2
    twice = np.append(found, found[place])
    rules: list[Callable[[Vector, Vector], Vector]] = [
        lambda p, f: powered(p, f, q=1.5),
        lambda p, f: tilted(p, f, t=2),
        lambda p, f: p / (3 - f),
        lambda p, f: exponentiated(p, f, gamma=0.5),
        lambda p, f: faded(p, f, beta=4),
    ]
    for rule in rules:
        whole, parts = summing_to_one(rule(share, found)), summing_to_one(rule(halves, twice))
        parts[place] += parts[-1]
        np.testing.assert_allclose(parts[:-1], whole, rtol=1e-9)


def simplex_projection(point: Vector) -> Vector:
    """Duchi et al. 2008, figure 1, as published."""
    ordered = np.sort(point)[::-1]
    sums = np.cumsum(ordered)
    last = np.nonzero(ordered * np.arange(1, len(point) + 1) > sums - 1)[0][-1]
    return np.maximum(point - (sums[last] - 1) / (last + 1), 0)


@few
@given(drawn=sites, gamma=st.floats(0, 3))
def test_afl_is_the_published_projection(drawn: tuple[Vector, Vector], gamma: float) -> None:
    share, found = drawn
    np.testing.assert_allclose(
        projected(share, found, gamma=gamma), simplex_projection(share + gamma * found), atol=1e-12
    )


def test_dro_adds_up_over_rounds_as_its_closed_form() -> None:
    """Three rounds of mirror ascent are one with the sum of the losses."""
    rounds, sizes = [(0.2, 0.5, 0.4), (0.3, 0.3, 0.6), (0.1, 0.7, 0.5)], [100, 300, 200]
    state: object = {}
    for found in rounds:
        weighed = weigh("dro", replace(told(*found, patients=sizes), state=state), gamma=0.5)
        state = weighed.state
    expected = summing_to_one(np.array(sizes) * np.exp(0.5 * np.sum(rounds, axis=0)))
    np.testing.assert_allclose(weighed.weights, expected, rtol=1e-12)


def test_fairfed_adds_up_over_rounds_and_stays_within_its_guards() -> None:
    heard = told(0.1, 0.3, 0.2, gap=0.0)
    first = weigh("fairfed, clipped", heard, beta=0.3)
    np.testing.assert_allclose(first.weights, [1 / 3 + 0.03, 1 / 3 - 0.03, 1 / 3], rtol=1e-12)
    second = weigh("fairfed, clipped", replace(heard, state=first.state), beta=0.3)
    np.testing.assert_allclose(second.weights, [1 / 3 + 0.06, 1 / 3 - 0.06, 1 / 3], rtol=1e-12)
    state = second.state
    for _ in range(60):  # unclipped, this is where weights of -19 came from
        state = weigh("fairfed, clipped", replace(heard, state=state), beta=1).state
    np.testing.assert_allclose([state["multiples"][site] / 3 for site in "abc"], [0.5, 1 / 15, 0.5 - 1 / 15], rtol=1e-9)


def test_fairfed_does_not_tell_a_gap_from_its_opposite_but_by_all_patients() -> None:
    away = distances(np.array([0.2, -0.2, 0.1]), np.zeros(3), 0.1)
    np.testing.assert_allclose(away, [0.1, 0.3, 0.0], atol=1e-15)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_how_far_steps_lead_is_what_an_optimiser_does(momentum: float, steps: int) -> None:
    """Sum of the absolute coefficients of the gradients: heavy-ball SGD on a gradient that is always 1."""
    velocity, position = 0.0, 0.0
    for _ in range(steps):
        velocity = momentum * velocity + 1
        position += velocity
    assert length(np.array([float(steps)]), momentum=momentum)[0] == pytest.approx(position, rel=1e-9)


def test_fednova_undoes_the_pull_of_more_steps() -> None:
    """Updates proportional to steps combine to the mean direction times the mean number of steps."""
    reports = [SiteReport("a", 100, steps=2), SiteReport("b", 300, steps=8)]
    weights = weigh("fednova", Heard(reports), momentum=0.0).weights
    np.testing.assert_allclose(weights, [0.25 * 6.5 / 2, 0.75 * 6.5 / 8], rtol=1e-12)
    np.testing.assert_allclose(weights @ np.array([[2.0, 0.0], [0.0, 8.0]]), 6.5 * np.array([0.25, 0.75]), rtol=1e-12)


@few
@given(heard=heards(), steps=st.integers(1, 50))
def test_fednova_with_equal_steps_is_fedavg_bit_by_bit(heard: Heard, steps: int) -> None:
    same = replace(heard, reports=[replace(report, steps=steps) for report in heard.reports])
    assert weigh("fednova", same).weights.tobytes() == weigh("cohort", same).weights.tobytes()


def test_known_shrinkage() -> None:
    near = believed(np.array([0.4, 0.4, 0.4]), np.array([0.02, 0.3, 0.0]), centre=0.1, between=0.01)
    np.testing.assert_allclose(near, [0.1 + 0.3 * 0.01 / 0.0104, 0.13, 0.4], rtol=1e-12)


def test_exact_signals_are_believed_and_noisy_ones_less_the_noisier_they_are() -> None:
    values = np.array([0.2, 0.8, 0.5, 0.9])
    assert shrunk(values, np.zeros(4), centre=0.6) is values
    one_noisy = shrunk(values, np.array([0.0, 0.0, 0.0, 0.5]), centre=0.6)
    assert one_noisy[:3].tolist() == values[:3].tolist()
    assert 0.6 < one_noisy[3] < 0.9
    some, much = (shrunk(values, np.full(4, sd), centre=0.6) for sd in (0.05, 0.25))
    assert (np.abs(much - 0.6) < np.abs(some - 0.6)).all()


def test_sites_that_differ_by_noise_only_are_taken_for_alike() -> None:
    assert between_sites(np.array([0.50, 0.51, 0.49]), np.full(3, 0.1)) == 0
    assert shrunk(np.array([0.50, 0.51, 0.49]), np.full(3, 0.1), centre=0.5).tolist() == [0.5, 0.5, 0.5]
    heard = told(0.5, 0.51, 0.49)
    noisy = replace(heard, reports=[replace(r, loss=Signal(r.loss.value, 0.1)) for r in heard.reports if r.loss])
    np.testing.assert_allclose(weigh("power", noisy, q=5).weights, 1 / 3, rtol=1e-12)


def test_the_variance_between_sites_is_found_in_the_mean() -> None:
    """Unbiased by simulation, over sites of unlike noise; one of great noise does not hide the rest."""
    chance = np.random.default_rng(5)
    noise = np.array([0.05, 0.1, 0.2, 0.1, 0.05, 3.0])
    draws = chance.normal(0, 0.4, (4000, 6)) + chance.normal(0, 1, (4000, 6)) * noise
    found = [between_sites(values, noise) for values in draws]
    assert np.mean(found) == pytest.approx(0.16, rel=0.1)


def test_between_sites_is_dersimonian_laird_where_no_noise_stands_out() -> None:
    values, noise = np.array([0.1, 0.5, 0.9, 0.4]), np.full(4, 0.1)
    trust = 1 / noise**2
    mean = np.average(values, weights=trust)
    heterogeneity = (trust * (values - mean) ** 2).sum()
    expected = (heterogeneity - 3) / (trust.sum() - (trust**2).sum() / trust.sum())
    assert between_sites(values, noise) == pytest.approx(expected, rel=1e-12)


def test_the_ceiling_is_above_what_can_be_told() -> None:
    from fedfm.config.coherence.weighting import LARGEST_LOSS, PARAMETERS  # noqa: PLC0415 - of another layer

    ceiling = PARAMETERS["propfair"]["ceiling"]
    assert LARGEST_LOSS == LOSS_CAP
    assert not ceiling.holds(LOSS_CAP)  # type: ignore[union-attr]
    highest = weigh("propfair", told(LOSS_CAP, 0.0), ceiling=LOSS_CAP * (1 + 1e-9)).weights
    np.testing.assert_allclose(highest, [0.75, 0.25], rtol=1e-12)


def test_guards_see_negative_weights_as_none() -> None:
    weighed = guarded(told(0.5, 0.5, 0.5), np.ones(3, dtype=bool), lambda share, known: np.array([2.0, -1.0, 1.0]))
    np.testing.assert_allclose(weighed.weights, [0.5, 1 / 15, 0.5 - 1 / 15], rtol=1e-9)

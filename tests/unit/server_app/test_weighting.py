"""What every weighting rule guarantees."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfm.signals import WEIGHTING_NEEDS
from server_app.weighting.bounds import nearest, scaled
from server_app.weighting.guards import guarded, least, most, shares
from server_app.weighting.heard import Heard, Signal, SiteReport
from server_app.weighting.rules import RULES, cohort, uniform
from tests.unit.server_app.weighting_cases import (
    BY_SIGNAL,
    CONVEX,
    GUARDED,
    PARAMETERS,
    heards,
    reordered,
    told,
    weigh,
)

few = settings(max_examples=40)


def test_weights_of_known_cohorts() -> None:
    known = Heard([SiteReport("a", 100), SiteReport("b", 300)])
    assert cohort(known).weights.tolist() == [0.25, 0.75]
    assert uniform(known).weights.tolist() == [0.5, 0.5]


def test_every_rule_is_here_and_says_what_it_needs() -> None:
    assert set(WEIGHTING_NEEDS) == set(RULES) == {case.partition(",")[0] for case in PARAMETERS}


@pytest.mark.parametrize("case", CONVEX)
@few
@given(heard=heards())
def test_weights_are_a_distribution(case: str, heard: Heard) -> None:
    weights = weigh(case, heard).weights
    assert weights.shape == (len(heard.reports),)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("case", GUARDED)
@few
@given(heard=heards())
def test_every_site_keeps_a_fifth_of_its_share_and_none_takes_the_study_over(case: str, heard: Heard) -> None:
    weights, share = weigh(case, heard).weights, shares(heard.reports)
    assert (weights >= 0.2 * share - 1e-12).all()
    assert (weights <= 3 * share + 1e-12).all()
    assert (weights <= np.maximum(0.5, 1.5 * share) + 1e-12).all()


@pytest.mark.parametrize("case", PARAMETERS)
@few
@given(heard=heards(complete=True), chance=st.randoms())
def test_weights_follow_the_sites_whatever_their_order(case: str, heard: Heard, chance: object) -> None:
    order = list(range(len(heard.reports)))
    chance.shuffle(order)  # type: ignore[attr-defined]
    # FedFV breaks ties of losses by the order of names, which is why reports come sorted
    distinct = [replace(r, loss=Signal(0.1 + 0.2 * place, 0.0)) for place, r in enumerate(heard.reports)]
    heard = replace(heard, reports=distinct)
    expected = weigh(case, heard).weights[order]
    np.testing.assert_allclose(weigh(case, reordered(heard, order)).weights, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("case", "still"),
    [
        ("power", {"q": 0}),
        ("tilt", {"t": 0}),
        ("dro", {"gamma": 0}),
        ("dro, projected", {"gamma": 0}),
        ("fairfed", {"beta": 0}),
        ("fairfed, clipped", {"beta": 0}),
    ],
)
@few
@given(heard=heards())
def test_a_rule_turned_off_is_fedavg_bit_by_bit(case: str, still: dict[str, float], heard: Heard) -> None:
    expected = cohort(heard).weights.tobytes()
    for _ in range(3):  # whatever it has kept
        weighed = weigh(case, heard, **still)
        assert weighed.weights.tobytes() == expected
        heard = replace(heard, state=weighed.state)


@pytest.mark.parametrize("case", BY_SIGNAL)
@few
@given(heard=heards())
def test_a_site_that_says_nothing_usable_counts_with_its_cohort_exactly(case: str, heard: Heard) -> None:
    weighed, share = weigh(case, heard), shares(heard.reports)
    of_gaps = case.startswith("fairfed")
    nobody_knows = of_gaps and not is_usable(heard.gap)
    silent = [
        place
        for place, report in enumerate(heard.reports)
        if nobody_knows or not is_usable(report.gap if of_gaps else report.loss)
    ]
    assert weighed.fallen_back == tuple(heard.reports[place].site for place in silent)
    assert weighed.weights[silent].tobytes() == share[silent].tobytes()


def is_usable(signal: Signal | None) -> bool:
    return signal is not None and math.isfinite(signal.value) and math.isfinite(signal.sd)


def test_a_silent_site_leaves_the_others_what_is_not_its_own() -> None:
    heard = told(0.4, 0.6, 1.0)
    silent = replace(heard, reports=[heard.reports[0], replace(heard.reports[1], loss=None), heard.reports[2]])
    weighed = weigh("power", silent, q=1)
    assert weighed.fallen_back == ("b",)
    np.testing.assert_allclose(weighed.weights, [2 / 3 * 0.4 / 1.4, 1 / 3, 2 / 3 * 1.0 / 1.4], rtol=1e-15)


@pytest.mark.parametrize("case", ["power", "tilt", "propfair", "dro", "dro, projected"])
@few
@given(heard=heards(complete=True), place=st.integers(0, 8), more=st.floats(0.01, 1.0))
def test_who_loses_more_counts_for_more(case: str, heard: Heard, place: int, more: float) -> None:
    place %= len(heard.reports)
    exact = [replace(r, loss=Signal(min(r.loss.value, 1.0) if r.loss else 0.5, 0.0)) for r in heard.reports]
    worse = list(exact)
    worse[place] = replace(exact[place], loss=Signal(exact[place].loss.value + more, 0.0))  # type: ignore[union-attr]
    before, after = (weigh(case, replace(heard, reports=reports)).weights for reports in (exact, worse))
    assert after[place] >= before[place] - 1e-12


@pytest.mark.parametrize("case", ["dro", "dro, projected", "fairfed, clipped", "cgsv"])
@few
@given(rounds=st.lists(heards(), min_size=3, max_size=6))
def test_what_is_kept_is_json_and_lets_sites_come_and_go(case: str, rounds: list[Heard]) -> None:
    state: object = {}
    for heard in rounds:
        through_a_file = json.loads(json.dumps(state))
        assert through_a_file == state
        weighed = weigh(case, replace(heard, state=through_a_file))
        share = shares(heard.reports)
        assert weighed.weights.sum() == pytest.approx(1, abs=1e-12)
        assert (weighed.weights >= 0.2 * share - 1e-12).all()
        state = weighed.state


def test_a_newcomer_starts_with_its_share_and_an_absent_site_keeps_what_it_had() -> None:
    two = told(0.2, 0.8)
    state = weigh("dro", two, gamma=1).state
    lifted = state["multiples"]["b"]
    assert lifted > 1 > state["multiples"]["a"]
    three = replace(told(0.5, 0.5, 0.5), state=state)
    weighed = weigh("dro", replace(three, reports=[three.reports[0], three.reports[2]]), gamma=1)
    assert weighed.state["multiples"]["b"] == lifted
    # equal losses move nothing: the new site enters with its share beside what the other had
    ratio = weighed.weights[0] / weighed.weights[1]
    assert ratio == pytest.approx(state["multiples"]["a"], rel=1e-12)


@few
@given(
    sizes=st.lists(st.integers(1, 10**6), min_size=1, max_size=12),
    raw=st.lists(st.floats(1e-3, 1e6), min_size=12, max_size=12),
)
def test_guards_scale_what_is_free_by_one_factor(sizes: list[int], raw: list[float]) -> None:
    share = shares([SiteReport("a", size) for size in sizes])
    wished = np.array(raw[: len(sizes)])
    wished /= wished.sum()
    low, high = least(share), most(share)
    weights = scaled(wished, low, high)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert (weights >= low - 1e-15).all()
    assert (weights <= high + 1e-15).all()
    is_free = (weights > low * (1 + 1e-9)) & (weights < high * (1 - 1e-9))
    factors = weights[is_free] / wished[is_free]
    np.testing.assert_allclose(factors, factors[:1].repeat(len(factors)), rtol=1e-6)
    if is_free.any():  # who is bound would go further by that factor
        assert (factors[0] * wished[weights <= low] <= low[weights <= low] * (1 + 1e-6)).all()
        assert (factors[0] * wished[weights >= high] >= high[weights >= high] * (1 - 1e-6)).all()


def test_a_weight_of_zero_is_raised_to_its_least_and_shares_what_is_left() -> None:
    share = np.full(4, 0.25)
    weights = scaled(np.array([1.0, 0.0, 0.0, 0.0]), least(share), most(share))
    np.testing.assert_allclose(weights, [0.5, 1 / 6, 1 / 6, 1 / 6], rtol=1e-12)


@few
@given(point=st.lists(st.floats(-3, 3), min_size=1, max_size=10), total=st.floats(0.1, 2.0), seed=st.integers(0, 2**32))
def test_the_nearest_point_is_the_nearest(point: list[float], total: float, seed: int) -> None:
    """No other point of the set, tried at random, makes an acute angle with the way that was gone."""
    start, size = np.array(point), len(point)
    found = nearest(start, np.zeros(size), np.full(size, total), total=total)
    assert found.sum() == pytest.approx(total, abs=1e-12)
    assert (found >= 0).all()
    others = total * np.random.default_rng(seed).dirichlet(np.full(size, 0.5), 40)
    assert ((others - found) @ (start - found) <= 1e-9).all()


def test_a_rule_that_says_nothing_of_anybody_leaves_the_cohorts() -> None:
    heard = told(0.5, 0.7)
    nobody = np.zeros(2, dtype=bool)
    weighed = guarded(heard, nobody, lambda share, known: 1 / 0)  # type: ignore[arg-type]
    assert weighed.weights.tolist() == [0.5, 0.5]
    assert weighed.fallen_back == ("a", "b")

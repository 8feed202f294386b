"""Rules that see inner products only, against the published algorithms on the vectors themselves."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from server_app.weighting.gram import cosines, projected_mean, reputations
from server_app.weighting.guards import shares
from server_app.weighting.heard import Heard, Signal, SiteReport
from server_app.weighting.least_norm import least_norm
from tests.unit.server_app.weighting_cases import gram_of, heards, weigh

Vectors = NDArray[np.float64]
seeds = st.integers(0, 2**32)
sizes = st.integers(2, 9)


def drawn(seed: int, size: int, *, dimensions: int = 4) -> Vectors:
    """Few dimensions, so that vectors conflict and depend on each other; lengths differ by orders."""
    chance = np.random.default_rng(seed)
    return chance.normal(size=(size, dimensions)) * chance.lognormal(0, 1, size=(size, 1))


def heard_of(updates: Vectors, *, losses: Vectors | None = None) -> Heard:
    found = np.linspace(0.1, 1, len(updates)) if losses is None else losses
    reports = [SiteReport(f"s{place}", 100, loss=Signal(float(loss), 0.0)) for place, loss in enumerate(found)]
    return Heard(reports, gram_of(updates))


def fedfv_on_vectors(updates: Vectors, losses: Vectors, alpha: float) -> Vectors:
    """Algorithm 2 of Wang et al. 2021 as the authors' code takes it, without the rounds before."""
    order = sorted(range(len(updates)), key=lambda place: losses[place])
    whole = order[math.ceil((len(order) - 1) * (1 - alpha)) :] if alpha > 0 else []
    changed = [update.copy() for update in updates]
    for one in range(len(updates)):
        if one in whole:
            continue
        for other in order:
            if other != one and (dot := changed[one] @ updates[other]) < 0:
                changed[one] = changed[one] - updates[other] * dot / (updates[other] @ updates[other])
    mean = np.mean(changed, axis=0)
    return mean / np.linalg.norm(mean) * np.linalg.norm(updates.mean(axis=0))


@settings(max_examples=150, deadline=None)
@given(seed=seeds, size=sizes, alpha=st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0]))
def test_fedfv_from_inner_products_is_fedfv_on_vectors(seed: int, size: int, alpha: float) -> None:
    updates = drawn(seed, size)
    losses = np.random.default_rng(seed + 1).permutation(np.linspace(0.1, 1.5, size))
    expected = fedfv_on_vectors(updates, losses, alpha)
    found = weigh("fedfv", heard_of(updates, losses=losses), alpha=alpha).weights @ updates
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * np.abs(updates).max())


def test_fedfv_in_high_dimension_is_equal_to_1e_12() -> None:
    updates, losses = drawn(7, 6, dimensions=40) - 0.5, np.array([0.3, 0.1, 0.9, 0.5, 0.2, 0.7])
    assert (gram_of(updates) < 0).any()
    found = weigh("fedfv", heard_of(updates, losses=losses), alpha=0.1).weights @ updates
    np.testing.assert_allclose(found, fedfv_on_vectors(updates, losses, 0.1), rtol=1e-12, atol=1e-12)


def test_fedfv_without_conflicts_is_the_plain_mean_and_without_losses_the_cohorts() -> None:
    updates = np.abs(drawn(3, 4))
    np.testing.assert_allclose(weigh("fedfv", heard_of(updates)).weights, 0.25, rtol=1e-12)
    silent = replace(heard_of(updates), reports=[SiteReport("a", 100), SiteReport("b", 300)], gram=gram_of(updates[:2]))
    weighed = weigh("fedfv", silent)
    assert weighed.weights.tolist() == [0.25, 0.75]
    assert weighed.fallen_back == ("a", "b")


def test_fedfv_of_updates_that_cancel_out_is_finite() -> None:
    updates = np.array([[1.0, 2.0], [-1.0, -2.0]])
    weights = weigh("fedfv", heard_of(updates), alpha=0.0).weights
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(weights @ updates, 0, atol=1e-12)


def test_fedfv_leaves_a_site_of_unknown_loss_in_the_middle() -> None:
    updates, losses = drawn(11, 5), np.array([0.1, 0.9, 0.5, 0.2, 0.8])
    heard = heard_of(updates, losses=losses)
    silent = replace(heard, reports=[replace(r, loss=None) if r.site == "s2" else r for r in heard.reports])
    weighed = weigh("fedfv", silent)
    assert weighed.fallen_back == ("s2",)
    np.testing.assert_array_equal(weighed.weights, weigh("fedfv", heard).weights)  # 0.5 is the others' mean


def cgsv_on_vectors(updates: Vectors, weights: Vectors, past: Vectors, alpha: float) -> tuple[Vectors, Vectors]:
    """The combined direction and the next reputations, as in the authors' code (Gamma = 1)."""
    directions = updates / np.linalg.norm(updates, axis=1, keepdims=True)
    combined = weights @ directions
    agreement = directions @ combined / np.linalg.norm(combined)
    after = np.maximum(alpha * past + (1 - alpha) * agreement, 1e-3)
    return combined, after / after.sum()


@settings(max_examples=100, deadline=None)
@given(seed=seeds, size=sizes, alpha=st.sampled_from([0.0, 0.5, 0.95]))
def test_reputations_from_inner_products_are_those_on_vectors(seed: int, size: int, alpha: float) -> None:
    updates = drawn(seed, size, dimensions=12)
    chance = np.random.default_rng(seed)
    weights, past = chance.dirichlet(np.ones(size)), chance.dirichlet(np.ones(size))
    _, expected = cgsv_on_vectors(updates, weights, past, alpha)
    found = reputations(cosines(gram_of(updates)), weights, past, alpha=alpha)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_cgsv_over_rounds_is_cgsv_on_vectors() -> None:
    """Alike enough that no guard binds; equal cohorts of four sites, where the first round has the shares."""
    state: object = {}
    weights, past = np.full(4, 0.25), np.zeros(4)
    for number in range(5):
        updates = np.abs(drawn(number, 4, dimensions=30)) * np.linspace(0.9, 1.1, 4)[:, None]
        updates /= np.linalg.norm(updates, axis=1, keepdims=True) / np.array([[1.0], [1.2], [0.9], [1.1]])
        weighed = weigh("cgsv", replace(heard_of(updates), state=state), alpha=0.6)
        combined, after = cgsv_on_vectors(updates, weights, past, 0.6)
        found = weighed.weights @ updates
        np.testing.assert_allclose(
            found / np.linalg.norm(found), combined / np.linalg.norm(combined), rtol=1e-12, atol=1e-13
        )
        weights = past = after
        state = weighed.state
        np.testing.assert_allclose([state["multiples"][f"s{i}"] / 4 for i in range(4)], after, rtol=1e-12)


def test_a_site_whose_update_is_zero_counts_with_its_cohort() -> None:
    updates = drawn(5, 4, dimensions=10)
    updates[2] = 0.0
    for case in ("mgda", "cgsv"):
        weighed = weigh(case, heard_of(updates))
        assert weighed.fallen_back == ("s2",)
        assert weighed.weights[2] == 0.25
    nothing = heard_of(np.zeros((3, 5)))
    for case in ("mgda", "cgsv", "fedfv"):
        np.testing.assert_allclose(weigh(case, nothing).weights, 1 / 3, rtol=1e-15)


def by_trying_every_face(gram: Vectors, low: Vectors, high: Vectors, total: float) -> Vectors:
    """The shortest mixture: every choice of weights at a bound, the others by the equations of Lagrange."""
    best, shortest = low, math.inf
    for places in itertools.product((-1, 0, 1), repeat=len(gram)):
        kind = np.array(places)
        weights = np.where(kind < 0, low, high).astype(float)
        free = np.nonzero(kind == 0)[0]
        if len(free):
            equations = np.zeros((len(free) + 1, len(free) + 1))
            equations[:-1, :-1], equations[:-1, -1], equations[-1, :-1] = gram[np.ix_(free, free)], 1, 1
            bound = np.where(kind == 0, 0.0, weights)
            right = np.append(-(gram @ bound)[free], total - bound.sum())
            weights[free] = np.linalg.lstsq(equations, right, rcond=None)[0][:-1]
        is_within = (weights >= low - 1e-12).all() and (weights <= high + 1e-12).all()
        if is_within and abs(weights.sum() - total) < 1e-12 and weights @ gram @ weights < shortest:
            best, shortest = weights, weights @ gram @ weights
    return best


@settings(max_examples=60, deadline=None)
@given(seed=seeds, size=st.integers(2, 5), reach=st.sampled_from([0.05, 0.2, 0.5, 1.0]))
def test_the_shortest_mixture_is_that_of_trying_every_face(seed: int, size: int, reach: float) -> None:
    gram = cosines(gram_of(drawn(seed, size, dimensions=8)))
    start = np.random.default_rng(seed).dirichlet(np.ones(size))
    expected = by_trying_every_face(gram, np.maximum(start - reach, 0), np.minimum(start + reach, 1), 1.0)
    np.testing.assert_allclose(least_norm(gram, start, reach=reach), expected, atol=1e-10)


def test_known_mixtures_to_1e_12() -> None:
    halves = np.array([0.5, 0.5])
    unlike = gram_of(np.array([[2.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_allclose(least_norm(unlike, halves, reach=1), [0.2, 0.8], rtol=1e-12)
    np.testing.assert_allclose(least_norm(unlike, halves, reach=0.1), [0.4, 0.6], rtol=1e-12)
    assert least_norm(unlike, halves, reach=0).tolist() == [0.5, 0.5]
    wide = gram_of(np.array([[1.0, 0.0], [-0.5, math.sqrt(0.75)]]))
    np.testing.assert_allclose(least_norm(wide, np.array([0.9, 0.1]), reach=1), [0.5, 0.5], rtol=1e-12)
    aside = gram_of(np.array([[1.0, 0.0], [2.0, 1.0]]))  # the first is the shortest itself
    np.testing.assert_allclose(least_norm(aside, halves, reach=1), [1.0, 0.0], atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, size=st.integers(2, 30), dimensions=st.integers(1, 40))
@example(seed=9, size=9, dimensions=4)  # more vectors than dimensions: the sum once drifted
@example(seed=22, size=22, dimensions=15)
def test_the_shortest_mixture_hurts_nobody(seed: int, size: int, dimensions: int) -> None:
    """The optimality of MGDA, also where vectors depend on each other: <v_k, d> >= ||d||^2."""
    vectors = drawn(seed, size, dimensions=dimensions)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    weights = least_norm(gram_of(vectors), np.full(size, 1 / size), reach=1.0)
    direction = weights @ vectors
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert (weights >= 0).all()
    assert (vectors @ direction).min() >= direction @ direction - 1e-9


@pytest.mark.parametrize("seed", [4, 14, 18, 25])
def test_vectors_of_unlike_length_have_their_shortest_mixture_too(seed: int) -> None:
    """Where a projected gradient alone would need many more steps."""
    chance = np.random.default_rng(seed)
    vectors = chance.normal(size=(12, 20)) * chance.lognormal(0, 1.5, size=(12, 1))
    direction = least_norm(gram_of(vectors), np.full(12, 1 / 12), reach=1.0) @ vectors
    assert (vectors @ direction).min() >= (1 - 1e-6) * (direction @ direction)


def test_mgda_follows_the_mixture_of_directions() -> None:
    """Near enough in length and angle that no guard binds."""
    updates = np.abs(drawn(2, 4, dimensions=60))
    updates /= np.linalg.norm(updates, axis=1, keepdims=True) / np.array([[1.0], [1.3], [0.8], [1.1]])
    directions = updates / np.linalg.norm(updates, axis=1, keepdims=True)
    mixture = least_norm(gram_of(directions), np.full(4, 0.25), reach=0.05) @ directions
    found = weigh("mgda", heard_of(updates), eps=0.05).weights @ updates
    np.testing.assert_allclose(found / np.linalg.norm(found), mixture / np.linalg.norm(mixture), rtol=1e-10)


@settings(max_examples=30, deadline=None)
@given(heard=heards())
def test_mgda_without_reach_mixes_directions_by_cohort(heard: Heard) -> None:
    gram = heard.gram
    assert gram is not None
    assume((np.diag(gram) > 0).all())
    raw = shares(heard.reports) / np.sqrt(np.diag(gram))
    weights, share = weigh("mgda", heard, eps=0).weights, shares(heard.reports)
    raw /= raw.sum()
    assume((raw > 0.21 * share).all() and (raw < np.minimum(2.9 * share, 0.99)).all())
    assume((raw < np.maximum(0.49, 1.4 * share)).all())
    np.testing.assert_allclose(weights, raw, rtol=1e-12)


def test_a_rule_that_needs_the_gram_matrix_says_so() -> None:
    with pytest.raises(ValueError, match="Gram matrix"):
        weigh("mgda", Heard([SiteReport("a", 1)]))


def test_projected_mean_keeps_the_length_of_the_plain_mean() -> None:
    updates = drawn(9, 5)
    coefficients = projected_mean(gram_of(updates), np.arange(5), alpha=0.0)
    assert np.linalg.norm(coefficients @ updates) == pytest.approx(np.linalg.norm(updates.mean(axis=0)), rel=1e-10)

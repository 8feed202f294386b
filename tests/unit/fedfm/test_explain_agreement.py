"""Agreement of reasons against SciPy, scikit-learn, plain sums, and vectors that rank nothing."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fedfm.explain.agreement import (
    _wins,
    divergence,
    drift,
    rank_correlation,
    rank_overlap,
    site_predictability,
    spearman,
    top_overlap,
)
from fedfm.explain.predictability import FOLDS, _regression, held_out_chances

Vector = np.ndarray
few = st.sampled_from([0.0, 0.0, 1.0, -1.0, 2.0, -3.0, 0.5, 5e-324, 1e308, -1e308, float("nan"), float("inf")])
vectors = st.integers(0, 9).flatmap(lambda n: st.tuples(*[arrays(np.float64, n, elements=few)] * 2))
COMPARED: dict[str, tuple[Callable[[Vector, Vector], float | None], float, float]] = {
    "rank_overlap": (rank_overlap, 0, 1),
    "rank_correlation": (rank_correlation, -1, 1),
    "top_overlap": (lambda a, b: top_overlap(a, b, 3), 0, 1),
    "drift": (drift, 0, 2),
    "divergence": (divergence, 0, 1),
}


def ranked(*order: int, terms: int = 12) -> Vector:
    """Return credits that rank these terms in this order; the signs alternate."""
    vector = np.zeros(terms)
    for place, term in enumerate(order):
        vector[term] = (-1) ** place * (100.0 - place)
    return vector


def plain_overlap(a: Vector, b: Vector, p: float, *, depth: int = 600) -> float:
    """Sum (1 - p) p^(d - 1) A_d rank by rank, far beyond the lists, where overlap goes on as Webber et al. assume."""
    lists = [[i for i in np.argsort(-np.abs(v), kind="stable") if v[i] != 0] for v in (a, b)]
    short, long = sorted(lists, key=len)
    at_short = len(set(short) & set(long[: len(short)])) / len(short)
    total = 0.0
    for d in range(1, depth):
        common = len(set(short[:d]) & set(long[:d])) + at_short * max(0, min(d, len(long)) - len(short))
        agreement = common / min(d, len(long)) if d > len(long) else common / d
        total += (1 - p) * p ** (d - 1) * agreement
    return total


@pytest.mark.parametrize("name", COMPARED)
@given(pair=vectors, data=st.data())
def test_bounds_symmetry_and_the_order_of_terms(name: str, pair: tuple[Vector, Vector], data: st.DataObject) -> None:
    compare, low, high = COMPARED[name]
    a, b = pair
    found = compare(a, b)
    if found is not None:
        assert low <= found <= high
    order = data.draw(st.permutations(range(len(a))))
    other = [compare(b, a), compare(a[order], b[order]), compare(a, b)]
    assert other == ([None] * 3 if found is None else [pytest.approx(found, abs=1e-12)] * 3)


@given(a=arrays(np.float64, 7, elements=few))
def test_reasons_agree_with_themselves(a: Vector) -> None:
    for name, (compare, _, _) in COMPARED.items():
        found = compare(a, a)
        wanted = 0.0 if name in ("drift", "divergence") else 1.0
        assert found is None or found == pytest.approx(wanted, abs=1e-12), name


def test_what_has_no_answer_has_none() -> None:
    some, none = ranked(0, 1, 2, 3), np.zeros(12)
    for name, (compare, _, _) in COMPARED.items():
        assert compare(none, none) is None, name
        assert compare(some, none) is None, name
        assert compare(np.full(12, np.nan), some) is None, name
        assert compare(np.zeros(0), np.zeros(0)) is None, name
    assert rank_correlation(some, ranked(0, 1)) is None  # two common terms
    assert rank_correlation(some, np.ones(12)) is None  # all equal
    assert drift(some, np.ones(12)) is None
    assert rank_overlap(some, ranked(5, 6)) == 0.0
    assert divergence(some, ranked(5, 6)) == pytest.approx(1.0)
    assert top_overlap(some, ranked(5, 6), 3) == 0.0


@given(
    first=st.permutations(range(9)),
    second=st.permutations(range(9)),
    lengths=st.tuples(*[st.integers(1, 9)] * 2),
)
def test_rank_overlap_is_the_sum_it_stands_for(first: list[int], second: list[int], lengths: tuple[int, int]) -> None:
    a, b = ranked(*first[: lengths[0]]), ranked(*second[: lengths[1]])
    assert rank_overlap(a, b) == pytest.approx(plain_overlap(a, b, 0.9), abs=1e-9)
    assert rank_overlap(a, b, 0.5) == pytest.approx(plain_overlap(a, b, 0.5), abs=1e-9)


def test_rank_overlap_by_hand() -> None:
    """Lists ab and ba: agreement 0, then 1 for ever; p in all. Tied ab against ab: 2/3, then 1."""
    assert rank_overlap(ranked(0, 1), ranked(1, 0)) == pytest.approx(0.9)
    tied = np.array([1.0, -1.0])
    assert rank_overlap(tied, np.array([2.0, 1.0])) == pytest.approx(0.1 * 2 / 3 + 0.9)
    assert rank_overlap(tied, tied) == pytest.approx(1.0)
    # The longer list agrees fully as far as the shorter goes, and that is taken to go on.
    assert rank_overlap(ranked(0, 1), ranked(0, 1, 2, 3)) == pytest.approx(1.0)
    assert rank_overlap(ranked(0, 1), ranked(0, 5)) == pytest.approx(0.1 + 0.9 * 0.5)


@given(pair=st.tuples(*[arrays(np.float64, 8, elements=st.sampled_from([1.0, 2.0, -2.0, 3.5, -1e-9, 0.0]))] * 2))
def test_rank_correlation_is_scipys(pair: tuple[Vector, Vector]) -> None:
    a, b = pair
    both = (a != 0) & (b != 0)
    found = rank_correlation(a, b)
    assume(found is not None)
    assert found == pytest.approx(scipy.stats.spearmanr(a[both], b[both]).statistic, abs=1e-12)
    assert drift(a, b) == pytest.approx(1 - found)


def test_zeros_are_ranked_where_the_words_are_the_same() -> None:
    a, b = np.array([0.0, 1.0, 2.0, 0.0]), np.array([0.0, 2.0, 1.0, -1.0])
    assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    assert rank_correlation(a, b) is None


@given(pair=st.tuples(*[arrays(np.float64, 6, elements=st.floats(-10, 10))] * 2))
def test_divergence_is_scipys(pair: tuple[Vector, Vector]) -> None:
    a, b = pair
    found = divergence(a, b)
    assume(found is not None)
    wanted = scipy.spatial.distance.jensenshannon(np.abs(a), np.abs(b), base=2) ** 2
    assert found == pytest.approx(wanted if np.isfinite(wanted) else 0.0, abs=1e-7)


def test_top_overlap_by_hand() -> None:
    assert top_overlap(ranked(0, 1, 2), ranked(0, 2, 3), 2) == pytest.approx(1 / 3)
    assert top_overlap(ranked(0, 1, 2), ranked(2, 0, 1), 9) == 1.0
    assert top_overlap(np.array([2.0, -1.0, 1.0]), np.array([2.0, 1.0, 0.0]), 2) == pytest.approx(
        2 / 3
    )  # tied for last


def profiles(sites: int, documents: int, features: int, *, between: float, seed: int = 0) -> Vector:
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(sites, 1, features)) * between
    return rng.normal(size=(1, documents, features)) + own + rng.normal(size=(sites, documents, features)) * 0.3


def test_the_regression_is_scikit_learns() -> None:
    rng = np.random.default_rng(3)
    features, labels = rng.normal(size=(90, 7)), rng.integers(3, size=90)
    features[labels == 1, 0] += 1.0
    weights = _regression(torch.from_numpy(features), torch.from_numpy(labels), classes=3)
    found = (torch.from_numpy(np.c_[features, np.ones(90)]) @ weights).softmax(-1).numpy()
    wanted = LogisticRegression(tol=1e-8, max_iter=1000).fit(features, labels).predict_proba(features)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_wins_are_scikit_learns_auroc() -> None:
    chances = np.random.default_rng(0).dirichlet([1, 1, 1], size=(3, 8)).round(1)
    labels = np.repeat(np.arange(3), 8)
    areas = [roc_auc_score(labels == site, chances.reshape(-1, 3)[:, site]) for site in range(3)]
    assert _wins(chances).mean() == pytest.approx(np.mean(areas))


def test_sites_that_reason_otherwise_are_told_apart() -> None:
    found = site_predictability(profiles(3, 20, 5, between=2.0), rng=np.random.default_rng(0))
    assert found is not None
    assert found.value > 0.97
    assert found.low > 0.9
    assert found.high <= 1


def test_the_same_model_everywhere_cannot_be_told_apart() -> None:
    same = np.repeat(profiles(1, 25, 6, between=0), 4, axis=0)
    found = site_predictability(same, rng=np.random.default_rng(0))
    assert found is not None
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
    alike = [
        site_predictability(profiles(3, 30, 4, between=0, seed=i), rng=np.random.default_rng(i)) for i in range(10)
    ]
    assert sum(each is not None and each.low <= 0.5 <= each.high for each in alike) >= 8
    assert np.mean([each.value for each in alike if each is not None]) == pytest.approx(0.5, abs=0.05)


def test_a_document_is_held_out_under_all_sites_at_once() -> None:
    """A feature that names the document: whoever learns from the document under another site would use it."""
    names = np.repeat(np.eye(15)[None], 3, axis=0)
    chances = held_out_chances(names + 0.0, rng=np.random.default_rng(0))
    np.testing.assert_allclose(chances, 1 / 3, atol=1e-6)
    assert FOLDS <= 15


def test_too_little_to_tell_sites_apart() -> None:
    rng = np.random.default_rng(0)
    for shape in [(1, 30, 3), (3, 9, 3), (3, 30, 0), (0, 30, 3), (3, 0, 3)]:
        assert site_predictability(np.zeros(shape), rng=rng) is None
    wrong = profiles(3, 12, 4, between=1.0)
    wrong[1, 3, 2] = np.nan
    found = site_predictability(wrong, rng=np.random.default_rng(1))
    left = site_predictability(np.delete(wrong, 3, axis=1), rng=np.random.default_rng(1))
    assert found == left is not None
    assert site_predictability(wrong[:, :10], rng=rng) is None
    flat = site_predictability(np.zeros((3, 30, 2)), rng=rng)
    assert flat is not None
    assert flat.value == 0.5
    huge = site_predictability(profiles(3, 20, 4, between=2.0) * 1e300, rng=rng)
    assert huge is not None
    assert np.isfinite([huge.value, huge.low, huge.high]).all()


def test_equal_draws_give_equal_estimates() -> None:
    given_ = profiles(3, 14, 4, between=0.2)
    one, two = (site_predictability(given_, rng=np.random.default_rng(5)) for _ in range(2))
    assert one == two
    assert one is not None
    assert one.low < one.value < one.high

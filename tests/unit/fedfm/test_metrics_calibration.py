"""Average precision and calibration from cells, against scikit-learn and simulation."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from fedfm.metrics.calibration import calibration_slope, middles, replicates
from fedfm.metrics.performance import performance
from tests.unit.fedfm.test_metrics import value

NAMES = ("auprc", "calibration_error", "calibration_slope", "calibration_in_the_large")


def at_middles(cells: Any) -> tuple[Any, Any]:
    """One score, at its bin's middle, and one label for each patient."""
    bins = cells.shape[1]
    pairs = [(middles(bins)[b], y) for y, b in itertools.product((0, 1), range(bins)) for _ in range(int(cells[y, b]))]
    scores, labels = zip(*pairs, strict=True)
    return np.array(scores), np.array(labels)


def tables(bins: int = 10, most: int = 12) -> st.SearchStrategy[Any]:
    """Counts with patients of both classes."""
    counts = st.lists(st.integers(0, most), min_size=2 * bins, max_size=2 * bins)
    shaped = counts.map(lambda cells: np.array(cells, dtype=float).reshape(2, bins))
    return shaped.filter(lambda cells: bool((cells.sum(axis=1) > 0).all()))


@settings(max_examples=60, deadline=None)
@given(cells=tables())
def test_figures_agree_with_scikit_learn(cells: Any) -> None:
    scores, labels = at_middles(cells)
    found = performance(cells, cells_sd=0, positive=1)
    assert value(found.auprc) == pytest.approx(metrics.average_precision_score(labels, scores), abs=1e-12)
    shares, means = calibration_curve(labels, scores, n_bins=10)
    filled = cells.sum(axis=0)[cells.sum(axis=0) > 0]
    assert value(found.calibration_error) == pytest.approx((filled * abs(shares - means)).sum() / filled.sum())
    assert value(found.calibration_in_the_large) == pytest.approx(labels.mean() - scores.mean(), abs=1e-12)


def test_the_slope_is_that_of_a_logistic_regression() -> None:
    chance = np.random.default_rng(3)
    for positive in (0, 1):
        cells = np.array([[9, 8, 7, 6, 5, 4, 4, 2, 2, 1], [1, 2, 2, 4, 4, 6, 5, 7, 9, 9.0]]) + chance.integers(0, 9)
        scores, labels = at_middles(cells)
        odds = np.log(scores / (1 - scores)).reshape(-1, 1)
        oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(odds, labels).coef_[0, 0]
        told = performance(cells[::-1] if positive == 0 else cells, cells_sd=0, positive=positive)
        assert value(told.calibration_slope) == pytest.approx(oracle, rel=1e-6)


@given(slope=st.sampled_from([0.4, 1.0, 1.7]), base=st.floats(-1, 1))
def test_the_slope_of_expected_counts_is_the_one_they_are_made_with(slope: float, base: float) -> None:
    middle = middles(20)
    chance = 1 / (1 + np.exp(-(base + slope * np.log(middle / (1 - middle)))))
    assert float(calibration_slope(np.array([1 - chance, chance]), 1)) == pytest.approx(slope)


@settings(max_examples=30, deadline=None)
@given(cells=tables(most=40))
def test_which_class_is_positive_is_a_matter_of_names(cells: Any) -> None:
    one, other = performance(cells, cells_sd=0, positive=1), performance(cells[::-1], cells_sd=0, positive=0)
    for name in NAMES:
        assert (getattr(one, name) is None) == (getattr(other, name) is None) or name == "calibration_slope"
        if getattr(one, name) is not None and getattr(other, name) is not None:
            assert value(getattr(one, name)) == pytest.approx(value(getattr(other, name)))


def test_what_is_not_defined_is_none_and_never_zero() -> None:
    one_class = np.zeros((2, 10))
    one_class[0] = 5.0
    separated = np.zeros((2, 10))
    separated[0, :5], separated[1, 5:] = 20.0, 20.0
    one_bin = np.zeros((2, 10))
    one_bin[:, 3] = 30.0
    drowned = np.full((2, 10), 1.0)
    assert all(getattr(performance(one_class, cells_sd=0, positive=1), name) is None for name in NAMES)
    assert all(getattr(performance(drowned, cells_sd=3.0, positive=1), name) is None for name in NAMES)
    for cells in (separated, one_bin):
        found = performance(cells, cells_sd=0, positive=1)
        assert found.calibration_slope is None
        assert found.calibration_error is not None
    assert all(getattr(performance(separated[:, ::5], cells_sd=0, positive=1), name) is None for name in NAMES)
    assert all(getattr(performance(np.full((3, 3), 9.0), cells_sd=0, positive=1), name) is None for name in NAMES)


@settings(max_examples=60, deadline=None)
@given(cells=st.lists(st.floats(-20, 200), min_size=20, max_size=20), sd=st.floats(0, 20))
def test_every_figure_is_inside_its_interval_and_said_again_the_same(cells: list[float], sd: float) -> None:
    table = np.array(cells).reshape(2, 10)
    found, again = (performance(table, cells_sd=sd, positive=1) for _ in range(2))
    for name in NAMES:
        figure = getattr(found, name)
        assert figure == getattr(again, name)
        assert figure is None or figure.low <= figure.value <= figure.high
        if figure is not None and name in ("auprc", "calibration_error"):
            assert figure.low >= 0
            assert figure.high <= 1


def test_replicates_have_the_spread_of_patients_and_noise() -> None:
    cells = np.array([[30.0, 5.0], [-2.0, 80.0]])
    drawn = replicates(cells, 3.0)
    assert drawn.mean(axis=0) == pytest.approx(cells, abs=1.5)
    assert drawn.var(axis=0) == pytest.approx(np.maximum(cells, 0) + 9, rel=0.2)


def population(sharper: float) -> Any:
    """Chances of each cell: scores whose log odds are ``sharper`` times what they should be."""
    chance = np.random.default_rng(1)
    labels = chance.random(400_000) < 0.3
    odds = sharper * (1.1 * (chance.normal(size=len(labels)) + 1.2 * labels) - 1.2)
    bins = np.clip((10 / (1 + np.exp(-odds))).astype(int), 0, 9)
    cells = np.zeros((2, 10))
    np.add.at(cells, (labels.astype(int), bins), 1)
    return cells / cells.sum()


@pytest.mark.slow
@pytest.mark.parametrize("sharper", [0.6, 1.0, 1.8])
@pytest.mark.parametrize(("patients", "noise"), [(150, 0.0), (150, 2.0), (600, 3.0), (3000, 5.0)])
def test_intervals_hold_the_truth_as_often_as_they_say(sharper: float, patients: int, noise: float) -> None:
    chances, chance = population(sharper), np.random.default_rng(9)
    truth = performance(1e6 * chances, cells_sd=0, positive=1)
    told, held = dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0)
    for _ in range(400):
        cells = chance.multinomial(patients, chances.ravel()).reshape(2, 10) + chance.normal(0, noise, (2, 10))
        found = performance(cells, cells_sd=noise, positive=1)
        for name in NAMES:
            figure = getattr(found, name)
            told[name] += figure is not None
            held[name] += figure is not None and figure.low <= value(getattr(truth, name)) <= figure.high
    for name in NAMES:
        assert held[name] >= 0.92 * told[name], (name, held[name], told[name])
        assert told[name] >= (100 if name == "calibration_slope" and patients < 600 else 380), name

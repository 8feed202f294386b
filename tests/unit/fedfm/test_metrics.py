"""Counts and what they say, against scikit-learn, simulation and closed forms."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from fedfm.errors import ModelError
from fedfm.metrics.counts import columns, patient_cells
from fedfm.metrics.performance import Estimate, performance


def some(size: int, *, seed: int = 0, classes: int = 2) -> tuple[Any, Any, list[str]]:
    """Probabilities, labels and one patient for each; better than chance."""
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, classes, size)
    scores = chance.normal(size=(size, classes)) + 1.2 * np.eye(classes)[labels]
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return probabilities, labels, [f"p{index}" for index in range(size)]


@given(
    patients=st.lists(st.integers(0, 6), min_size=1, max_size=30),
    bins=st.sampled_from([2, 4, 10]),
    classes=st.integers(2, 4),
    seed=st.integers(0, 1000),
)
def test_one_patient_changes_the_cells_by_at_most_one(patients: list[int], bins: int, classes: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    probabilities = chance.dirichlet(np.ones(classes), len(patients))
    labels = chance.integers(0, classes, len(patients))
    names = [f"p{number}" for number in patients]
    whole = patient_cells(probabilities, labels, names, bins=bins, positive=1)
    assert whole.shape == (classes, bins if classes == 2 else classes)
    assert whole.sum() == pytest.approx(len(set(names)))
    for gone in set(names):
        kept = [index for index, name in enumerate(names) if name != gone]
        rest = patient_cells(probabilities[kept], labels[kept], [names[index] for index in kept], bins=bins, positive=1)
        alone = [index for index, name in enumerate(names) if name == gone]
        mine = patient_cells(probabilities[alone], labels[alone], [gone] * len(alone), bins=bins, positive=1)
        assert np.linalg.norm(whole - rest) <= 1 + 1e-9
        np.testing.assert_allclose(whole, rest + mine, atol=1e-12)  # sites with other patients may be added


def test_a_score_of_one_is_in_the_last_bin() -> None:
    cells = patient_cells(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1, 0]), ["a", "b"], bins=10, positive=1)
    assert cells[1, 9] == cells[0, 0] == 1


def test_the_positive_class_may_be_the_first() -> None:
    probabilities, labels, patients = some(300)
    last = patient_cells(probabilities, labels, patients, bins=10, positive=1)
    first = patient_cells(probabilities[:, ::-1], 1 - labels, patients, bins=10, positive=0)
    np.testing.assert_array_equal(first, last[::-1])
    one, other = performance(first, cells_sd=0, positive=0), performance(last, cells_sd=0, positive=1)
    for name in ("accuracy", "sensitivity", "specificity", "auroc", "prevalence", "brier"):
        assert value(getattr(one, name)) == pytest.approx(value(getattr(other, name)))


def test_probabilities_must_be_finite() -> None:
    with pytest.raises(ModelError, match="MODEL-E090"):
        patient_cells(np.array([[np.nan, 1.0]]), np.array([1]), ["a"], bins=2, positive=1)


def test_columns_are_few_until_the_last_evaluation() -> None:
    assert columns(2, bins=10, is_last=False) == 2
    assert columns(2, bins=10, is_last=True) == 10
    assert columns(5, bins=10, is_last=False) == columns(5, bins=10, is_last=True) == 5


def test_two_classes_agree_with_scikit_learn() -> None:
    probabilities, labels, patients = some(2000)
    score = probabilities[:, 1]
    bins = 20
    found = performance(patient_cells(probabilities, labels, patients, bins=bins, positive=1), cells_sd=0, positive=1)
    guess = score >= 0.5
    assert value(found.accuracy) == pytest.approx(metrics.accuracy_score(labels, guess))
    assert value(found.sensitivity) == pytest.approx(metrics.recall_score(labels, guess))
    assert value(found.specificity) == pytest.approx(metrics.recall_score(labels, guess, pos_label=0))
    assert value(found.prevalence) == pytest.approx(labels.mean())
    assert found.patients == Estimate(2000, 2000, 2000)
    binned = np.minimum((score * bins).astype(int), bins - 1)
    assert value(found.auroc) == pytest.approx(metrics.roc_auc_score(labels, binned))
    assert value(found.auroc) == pytest.approx(metrics.roc_auc_score(labels, score), abs=0.005)
    assert value(found.brier) == pytest.approx(metrics.brier_score_loss(labels, (binned + 0.5) / bins))
    assert value(found.brier) == pytest.approx(metrics.brier_score_loss(labels, score), abs=0.005)


def test_more_classes_agree_with_scikit_learn() -> None:
    probabilities, labels, patients = some(500, classes=4)
    cells = patient_cells(probabilities, labels, patients, bins=10, positive=3)
    np.testing.assert_allclose(cells, metrics.confusion_matrix(labels, probabilities.argmax(axis=1)))
    found = performance(cells, cells_sd=0, positive=3)
    assert value(found.accuracy) == pytest.approx(metrics.accuracy_score(labels, probabilities.argmax(axis=1)))
    assert found.auroc is found.sensitivity is found.specificity is found.prevalence is found.brier is None


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_intervals_hold_the_truth_as_often_as_they_say(noise: float) -> None:
    """Of 600 hospitals of 150 patients, about 95 % of the intervals hold the figure of the whole population."""
    probabilities, labels, patients = some(200_000, seed=5)
    whole = performance(patient_cells(probabilities, labels, patients, bins=10, positive=1), cells_sd=0, positive=1)
    chance = np.random.default_rng(7)
    held = {"accuracy": 0, "sensitivity": 0, "specificity": 0, "auroc": 0, "prevalence": 0, "brier": 0}
    for _ in range(600):
        drawn = chance.choice(len(labels), 150, replace=False)
        cells = patient_cells(probabilities[drawn], labels[drawn], [patients[i] for i in drawn], bins=10, positive=1)
        found = performance(cells + chance.normal(0, noise, cells.shape), cells_sd=noise, positive=1)
        for name in held:
            figure, truth = getattr(found, name), getattr(whole, name).value
            held[name] += figure is not None and figure.low <= truth <= figure.high
    for name, count in held.items():
        assert 0.925 <= count / 600 <= 0.985, name


def test_noise_widens_the_interval() -> None:
    cells = patient_cells(*some(200), bins=10, positive=1)
    plain, noisy = (performance(cells, cells_sd=sd, positive=1) for sd in (0.0, 3.0))
    for name in ("accuracy", "sensitivity", "specificity", "auroc", "prevalence", "brier"):
        one, other = getattr(plain, name), getattr(noisy, name)
        assert one.value == other.value
        assert other.high - other.low > one.high - one.low
    assert noisy.patients.high - noisy.patients.low == pytest.approx(2 * 1.96 * 3 * np.sqrt(20))


def test_certainty_is_not_claimed_from_twenty_right_answers() -> None:
    found = performance(np.array([[10.0, 0.0], [0.0, 10.0]]), cells_sd=0, positive=1)
    assert found.accuracy is not None
    assert found.accuracy.value == found.accuracy.high == 1
    assert 0.75 < found.accuracy.low < 0.9  # Agresti and Coull: 0.804


def test_what_cannot_be_known_is_none() -> None:
    only_negatives = np.array([[5.0, 1.0], [0.0, 0.0]])
    found = performance(only_negatives, cells_sd=0, positive=1)
    assert found.sensitivity is None
    assert found.auroc is None
    assert value(found.specificity) == pytest.approx(5 / 6)
    drowned = performance(np.array([[5.0, 1.0], [0.5, -2.0]]), cells_sd=4.0, positive=1)
    assert drowned.accuracy is drowned.sensitivity is drowned.prevalence is None
    assert performance(np.zeros((2, 10)), cells_sd=0, positive=1).auroc is None


@pytest.mark.parametrize(
    ("cells", "share"),
    [([[60.0, 12.0], [8.0, 20.0]], 0.72), ([[5.0, 5.0], [10.0, 80.0]], 0.9), (np.diag([2.0, 3.0, 5.0]), 0.5)],
)
def test_the_baseline_is_the_share_of_the_most_frequent_class(cells: list[list[float]], share: float) -> None:
    found = performance(np.array(cells), cells_sd=0, positive=1)
    assert value(found.baseline) == pytest.approx(share)


@settings(max_examples=100)
@given(
    cells=st.lists(st.floats(-20, 200), min_size=20, max_size=20),
    sd=st.floats(0, 20),
)
def test_every_figure_is_a_share_inside_its_interval(cells: list[float], sd: float) -> None:
    found = performance(np.array(cells).reshape(2, 10), cells_sd=sd, positive=1)
    for name in ("accuracy", "sensitivity", "specificity", "auroc", "prevalence", "brier"):
        figure = getattr(found, name)
        if figure is not None:
            assert 0 <= figure.low <= figure.value <= figure.high <= 1


def value(figure: Estimate | None) -> float:
    assert figure is not None
    return figure.value

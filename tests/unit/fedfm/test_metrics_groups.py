"""Figures of groups and means of clipped losses, against scikit-learn, simulation and closed forms."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from fedfm.metrics.counts import LOSS_CAP, clipped_loss, group_tables, patient_cells
from fedfm.metrics.groups import group_figures
from fedfm.metrics.performance import LEAST_PATIENTS, mean_of, performance
from tests.unit.fedfm.test_metrics import some, value


def members_of(size: int, *, seed: int = 3) -> dict[str, Any]:
    drawn = np.random.default_rng(seed).integers(0, 3, size)
    return {"female": drawn == 0, "male": drawn == 1}  # the others are in no group


@pytest.mark.parametrize("positive", [0, 1])
def test_two_classes_agree_with_scikit_learn(positive: int) -> None:
    probabilities, labels, patients = some(1500)
    members = members_of(1500)
    predicted = np.where(probabilities[:, positive] >= 0.5, positive, 1 - positive)
    tables = group_tables(probabilities, labels, patients, members=members, positive=positive)
    for group, inside in members.items():
        found = group_figures(tables[group], sd=0.0, positive=positive)
        assert found is not None
        np.testing.assert_array_equal(tables[group], metrics.confusion_matrix(labels[inside], predicted[inside]))
        assert found.patients.value == inside.sum()
        assert value(found.accuracy) == pytest.approx(metrics.accuracy_score(labels[inside], predicted[inside]))
        recall = metrics.recall_score(labels[inside], predicted[inside], pos_label=positive)
        assert value(found.sensitivity) == pytest.approx(recall)
        assert value(found.selection) == pytest.approx((predicted[inside] == positive).mean())


def test_groups_that_hold_everybody_say_what_the_whole_says() -> None:
    probabilities, labels, patients = some(400)
    everyone = np.ones(400, dtype=bool)
    table = group_tables(probabilities, labels, patients, members={"all": everyone}, positive=1)["all"]
    cells = patient_cells(probabilities, labels, patients, bins=10, positive=1)
    whole, group = performance(cells, cells_sd=0, positive=1), group_figures(table, sd=0, positive=1)
    assert group is not None
    assert value(group.accuracy) == pytest.approx(value(whole.accuracy))
    assert value(group.sensitivity) == pytest.approx(value(whole.sensitivity))


def test_more_classes_have_an_accuracy_only() -> None:
    probabilities, labels, patients = some(300, classes=4)
    everyone = np.ones(300, dtype=bool)
    table = group_tables(probabilities, labels, patients, members={"all": everyone}, positive=3)["all"]
    found = group_figures(table, sd=0, positive=3)
    assert found is not None
    assert value(found.accuracy) == pytest.approx((probabilities.argmax(axis=1) == labels).mean())
    assert found.sensitivity is found.selection is None


@pytest.mark.parametrize(
    ("count", "sd", "shown"), [(10, 0.0, False), (11, 0.0, True), (20, 3.0, False), (40, 3.0, True)]
)
def test_no_figure_stands_for_few_patients(count: int, sd: float, shown: bool) -> None:
    table = np.array([[count / 2, 0.0], [0.0, count / 2]])
    found = group_figures(table, sd=sd, positive=1)
    assert (found is not None) == shown
    if found is not None:
        assert found.patients.low >= LEAST_PATIENTS
        assert found.sensitivity is None or count / 2 >= LEAST_PATIENTS


def test_few_positives_have_no_sensitivity_though_the_group_is_large() -> None:
    found = group_figures(np.array([[60.0, 4.0], [4.0, 6.0]]), sd=0.0, positive=1)
    assert found is not None
    assert found.sensitivity is None
    assert found.selection is not None


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_intervals_of_groups_hold_the_truth_as_often_as_they_say(noise: float) -> None:
    chance = np.random.default_rng(11)
    probabilities = np.array([0.4, 0.15, 0.1, 0.35])
    truth = {"accuracy": 0.75, "sensitivity": 0.35 / 0.45, "selection": 0.5}
    held = dict.fromkeys(truth, 0)
    for _ in range(800):
        table = chance.multinomial(150, probabilities).reshape(2, 2) + chance.normal(0, noise, (2, 2))
        found = group_figures(table, sd=noise, positive=1)
        assert found is not None
        for name, expected in truth.items():
            figure = getattr(found, name)
            held[name] += figure.low <= expected <= figure.high
    for name, count in held.items():
        assert 0.93 <= count / 800 <= 0.98, name


@pytest.mark.parametrize("noise", [0.0, 4.0])
def test_intervals_of_mean_losses_hold_the_truth_at_least_as_often_as_they_say(noise: float) -> None:
    chance = np.random.default_rng(12)
    held = 0
    for _ in range(800):
        losses = np.minimum(chance.exponential(0.3, 120), 1.0)
        found = mean_of(losses.sum() + noise * chance.normal(), 120 + noise * chance.normal(), sd=noise, low=0, high=1)
        held += found is not None and found.low <= 0.3 * (1 - math.exp(-1 / 0.3)) <= found.high
    assert held / 800 >= 0.95


def test_a_mean_is_not_told_where_the_number_drowns_in_the_noise() -> None:
    assert mean_of(3.0, 7.9, sd=4.0, low=0.0, high=1.0) is None
    assert mean_of(0.0, 0.0, sd=0.0, low=0.0, high=1.0) is None
    known = mean_of(3.0, 8.1, sd=4.0, low=0.0, high=1.0)
    assert known is not None
    assert known.low == 0.0
    assert known.high == 1.0


@settings(max_examples=200)
@given(
    losses=st.lists(st.floats(0, 1e300) | st.sampled_from([math.inf, math.nan]), max_size=20),
    patients=st.lists(st.integers(0, 4), min_size=20, max_size=20),
)
def test_a_clipped_loss_is_a_share_of_the_cap(losses: list[float], patients: list[int]) -> None:
    names = [str(patient) for patient in patients[: len(losses)]]
    found = clipped_loss(np.array(losses), names)
    assert len(found) == len(set(names))
    assert ((found >= 0) & (found <= 1)).all()
    for place, name in enumerate(sorted(set(names))):
        own = [loss for loss, patient in zip(losses, names, strict=True) if patient == name]
        mean = math.fsum(own) / len(own) if all(map(math.isfinite, own)) else math.inf
        assert found[place] == pytest.approx(min(mean / LOSS_CAP, 1.0))

"""Sums say what the patients say: against plain means and deviations, and within bounds whatever the sums are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from fedfm import statistics
from fedfm.config.compose import compose_study
from fedfm.config.study import Study
from fedfm.model.standardization import Standardization, of_columns, of_states

COLUMNS = compose_study(["experiment=heart_disease", "standardize=global"]).value
NOTES = compose_study(["experiment=icu_notes", "standardize=global"]).value
F, D = len(COLUMNS.task.columns), 8


def model_part(study: Study) -> Standardization:
    return of_columns(F) if study.task.inputs == "columns" else of_states(D)


def columns_of(patients: int, *, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.normal(rng.uniform(-0.3, 0.3, F), rng.uniform(0.2, 0.5, F), (patients, F)).clip(-1, 1)
    missing = (rng.random((patients, F)) < 0.1).astype(float)
    return values * (1 - missing), missing, rng.integers(0, 2, patients)


def test_exact_sums_of_columns_give_plain_means_and_deviations_of_what_is_there() -> None:
    values, missing, labels = columns_of(400)
    sums = statistics.vectors_of_columns(COLUMNS, values, missing, labels).sum(axis=0)
    found = statistics.pooled(COLUMNS, sums, sums_sd=0.0, declared=300)  # declared is not looked at without noise
    there = np.ma.masked_array(values, missing > 0)
    np.testing.assert_allclose(found.mean, there.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(found.deviation, np.maximum(there.std(axis=0), 0.2), atol=1e-9)
    np.testing.assert_allclose(found.missing, missing.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(found.prevalence, np.bincount(labels) / 400, atol=1e-9)
    assert found.patients == pytest.approx(400)
    assert found.mean_sd.max() == found.missing_sd == found.prevalence_sd == 0
    scaled = statistics.for_model(found, COLUMNS)
    np.testing.assert_allclose(scaled["scale"], found.deviation, rtol=1e-6)


def test_exact_sums_of_states_give_the_mean_and_one_length() -> None:
    rng = np.random.default_rng(2)
    states = rng.normal(0.2, 0.2, (500, D))
    assert np.linalg.norm(states, axis=1).max() < 2.0  # so that nothing is cut
    sums = statistics.vectors_of_states(NOTES, states, rng.integers(0, 2, 500)).sum(axis=0)
    found = statistics.pooled(NOTES, sums, sums_sd=0.0, declared=500)
    np.testing.assert_allclose(found.mean, states.mean(axis=0), atol=1e-9)
    length = np.sqrt(((states - states.mean(axis=0)) ** 2).sum(axis=1).mean())
    assert found.deviation == pytest.approx([length])
    arrays = statistics.for_model(found, NOTES)
    standard = (states - arrays["mean"]) / arrays["scale"]
    assert np.sqrt((standard**2).sum(axis=1).mean()) == pytest.approx(2.0, rel=1e-5)


@pytest.mark.parametrize("study", [COLUMNS, NOTES], ids=["columns", "notes"])
def test_the_noise_that_is_told_is_the_noise_that_is_there(study: Study) -> None:
    rng, patients, sums_sd = np.random.default_rng(3), 2000, 40.0
    if study is COLUMNS:
        exact = statistics.vectors_of_columns(study, *columns_of(patients)).sum(axis=0)
    else:
        states, labels = rng.normal(0.3, 0.3, (patients, D)), rng.integers(0, 2, patients)
        exact = statistics.vectors_of_states(study, states, labels).sum(axis=0)
    drawn = [
        statistics.pooled(study, exact + rng.normal(0, sums_sd, exact.size), sums_sd=sums_sd, declared=patients)
        for _ in range(600)
    ]
    told = drawn[0]
    assert np.std([found.mean for found in drawn], axis=0).mean() == pytest.approx(np.mean(told.mean_sd), rel=0.15)
    spread = np.std([found.deviation for found in drawn], axis=0).mean()
    assert spread == pytest.approx(np.mean([found.deviation_sd for found in drawn]), rel=0.35)
    label_spread = np.std([found.prevalence[0] for found in drawn])
    assert 0.5 * told.prevalence_sd < label_spread < 1.1 * told.prevalence_sd


def test_a_column_that_noise_swamps_is_not_blown_up() -> None:
    values, missing, labels = columns_of(30)
    sums = statistics.vectors_of_columns(COLUMNS, values, missing, labels).sum(axis=0)
    rng = np.random.default_rng(4)
    for _ in range(50):
        noisy = sums + rng.normal(0, 30.0, sums.size)
        found = statistics.pooled(COLUMNS, noisy, sums_sd=30.0, declared=30)
        assert found.deviation.min() > 0.8  # noise of one patient's size: the scale stays that of the reference range


@given(
    sums=st_numpy.arrays(np.float64, 2 + 3 * F, elements=st.floats(-1e300, 1e300)),
    sums_sd=st.floats(0, 1e6),
    declared=st.integers(1, 10**7),
)
def test_a_model_takes_whatever_sums_of_columns_give(sums: np.ndarray, sums_sd: float, declared: int) -> None:
    with np.errstate(all="ignore"):
        found = statistics.pooled(COLUMNS, sums, sums_sd=sums_sd, declared=declared)
    model_part(COLUMNS).set(statistics.for_model(found, COLUMNS))


@given(
    sums=st_numpy.arrays(np.float64, 2 + D + 1, elements=st.floats(-1e100, 1e100)),
    sums_sd=st.floats(0, 1e6),
    declared=st.integers(1, 10**7),
)
def test_a_model_takes_whatever_sums_of_states_give(sums: np.ndarray, sums_sd: float, declared: int) -> None:
    with np.errstate(all="ignore"):
        found = statistics.pooled(NOTES, sums, sums_sd=sums_sd, declared=declared)
    model_part(NOTES).set(statistics.for_model(found, NOTES))


EXTREMES = st.sampled_from([0.0, 1.0, -1.0, 3.0, 1e6, -1e6, np.inf, -np.inf, np.nan])


@given(
    values=st_numpy.arrays(np.float64, (3, F), elements=EXTREMES),
    missing=st_numpy.arrays(np.float64, (3, F), elements=st.sampled_from([0.0, 1.0])),
    states=st_numpy.arrays(np.float64, (3, D), elements=EXTREMES),
    labels=st_numpy.arrays(np.int64, 3, elements=st.integers(0, 1)),
)
def test_no_example_is_longer_than_the_bound(
    values: np.ndarray, missing: np.ndarray, states: np.ndarray, labels: np.ndarray
) -> None:
    for study, rows in (
        (COLUMNS, statistics.vectors_of_columns(COLUMNS, values, missing, labels)),
        (NOTES, statistics.vectors_of_states(NOTES, states, labels)),
    ):
        assert rows.shape == (3, statistics.width(study, inputs=F if study is COLUMNS else D))
        assert np.linalg.norm(rows, axis=1).max() <= statistics.bound(study) * (1 + 1e-9)

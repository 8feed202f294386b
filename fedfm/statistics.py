"""What a site sums over its training patients before round 1, and the means and deviations that follow.

One example gives one vector: a mark for its label, and what the model reads. The vector is cut to a public norm, the
vectors of one patient are averaged, and the patients are summed: one patient moves the sums by at most that norm.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedfm.arrays import Arrays
from fedfm.config.study import Study

CUT = 3.0
"""Columns are cut here before they are summed, in units of half the study's reference range."""

LARGEST_MEAN, SCALES = 10.0, (0.01, 100.0)
"""What a model takes as means and deviations: more than the sums can give, and far from overflow."""

_LABEL = 0.5  # weight of the label's mark: prevalence needs less precision than what the model reads
_MISSING, _CURVED = 0.5, 0.5  # weights of the marks of missing columns, and of squares less 1
_SQUARE = 0.25  # weight of a state's squared norm, of which there is only one
_DECLARED = 0.1  # relative error that a declared number of patients is taken to have
_STATE_NORM = 2.0  # of standardised states: near what MiniLM's have unstandardised, so that a step keeps its length
_LEAST_DEVIATION = 0.2  # of a column: half the reference range is 1

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """What noised sums say; every ``_sd`` is the standard deviation that the noise gives.

    Attributes:
        patients: Training patients, about.
        prevalence: float64[C] share of each label, in [0, 1].
        prevalence_sd: Of each share.
        missing: float64[F] share of patients without the column, in [0, 1]; empty for text.
        missing_sd: Of each share.
        mean: float64[F] in scaled columns, or float64[D] of the states that enter the head.
        mean_sd: float64 of the same shape; of states before they are shrunk.
        deviation: float64[F], or float64[1]: the root mean square distance of a state from the mean.
        deviation_sd: float64 of the same shape.
    """

    patients: float
    prevalence: Floats
    prevalence_sd: float
    missing: Floats
    missing_sd: float
    mean: Floats
    mean_sd: Floats
    deviation: Floats
    deviation_sd: Floats


def bound(study: Study) -> float:
    """Return the most that one patient can move the sums, in L2 norm: the public sensitivity."""
    if study.task.inputs == "columns":
        return math.sqrt(len(study.task.columns) + _LABEL**2)
    return math.sqrt(study.standardize.radius**2 * (1 + _SQUARE**2) + _LABEL**2)


def width(study: Study, *, inputs: int) -> int:
    """Return K, the number of sums, for a model that standardises ``inputs`` numbers: F columns or D of a state."""
    return len(study.task.labels) + (3 * inputs if study.task.inputs == "columns" else inputs + 1)


def vectors_of_columns(study: Study, values: Floats, missing: Floats, labels: NDArray[np.int64]) -> Floats:
    """Return float64[N, K]: label, marks of missing values, values, and their squares less 1.

    A square less 1 is nothing for a two-valued column, which has its values at the ends of the reference range.

    Args:
        study: Names labels and columns.
        values: float64[N, F] in units of half the reference range; 0 where missing.
        missing: float64[N, F], 1 where missing.
        labels: int64[N].
    """
    inside = np.clip(np.nan_to_num(values), -CUT, CUT) * (1 - missing)
    squares = _CURVED * (inside**2 - 1) * (1 - missing)
    marks = _LABEL * np.eye(len(study.task.labels))[labels]
    return _within(np.concatenate([marks, _MISSING * missing, inside, squares], axis=1), bound(study))


def vectors_of_states(study: Study, states: Floats, labels: NDArray[np.int64]) -> Floats:
    """Return float64[N, K]: label, state cut to the study's radius, and its squared norm.

    Args:
        study: Names labels and ``standardize.radius``.
        states: float64[N, D] that enter the head.
        labels: int64[N].
    """
    radius = study.standardize.radius
    inside = _within(np.nan_to_num(states, posinf=0.0, neginf=0.0), radius)  # what overflowed counts as nothing
    squares = _SQUARE / radius * (inside**2).sum(axis=1, keepdims=True)
    marks = _LABEL * np.eye(len(study.task.labels))[labels]
    return _within(np.concatenate([marks, inside, squares], axis=1), bound(study))


def pooled(study: Study, sums: Floats, *, sums_sd: float, declared: int) -> Statistics:
    """Return what the sums of one site, or the sums of several added up, say about their patients.

    Args:
        study: That the sums were taken for.
        sums: float64[K], noised.
        sums_sd: Standard deviation of the noise in each; 0 for exact sums.
        declared: Patients that the sites declare together; steadies the noised count of patients.

    Guarantees:
        Finite, and within what a model takes (``LARGEST_MEAN``, ``SCALES``), whatever the finite sums are.
    """
    labels = len(study.task.labels)
    counts, rest = sums[:labels] / _LABEL, sums[labels:]
    of_count = labels * (sums_sd / _LABEL) ** 2
    trust = of_count / (of_count + (_DECLARED * declared) ** 2)
    patients = max(1.0, (1 - trust) * float(counts.sum()) + trust * declared)
    noise, of_patients = sums_sd / patients, (1 - trust) * math.sqrt(of_count) / patients
    of_inputs = _of_columns if study.task.inputs == "columns" else _of_states
    surplus = (patients - float(counts.sum())) / labels  # noise of all labels together, which the total shows
    prevalence = np.clip((counts + surplus) / patients, 0.0, 1.0)
    return Statistics(patients, prevalence, noise / _LABEL, *of_inputs(study, rest / patients, noise, of_patients))


def for_model(statistics: Statistics, study: Study) -> Arrays:
    """Return what the model's input is standardised by: ``mean``, and ``scale`` to divide by."""
    scale = statistics.deviation / (1.0 if study.task.inputs == "columns" else _STATE_NORM)
    return {"mean": statistics.mean.astype(np.float32), "scale": scale.astype(np.float32)}


_OfInputs = tuple[Floats, float, Floats, Floats, Floats, Floats]  # the fields of Statistics from missing on


def _of_columns(_study: Study, means: Floats, noise: float, of_patients: float) -> _OfInputs:
    """Return missingness, mean and deviation of the present values, with a floor under what noise could have made."""
    marks, first, second = np.split(means, 3)
    missing = np.clip(marks / _MISSING, 0.0, 1.0)
    present = np.clip(1 - missing, min(1.0, max(0.05, 2 * noise / _MISSING)), 1.0)
    mean = np.clip(first / present, -CUT, CUT)
    sd = np.hypot(noise / present, of_patients * mean)
    variance = second / present / _CURVED + 1 - (mean**2 - sd**2)
    variance_sd = np.hypot(noise / present / _CURVED, 2 * sd * mean)
    floor = np.maximum(_LEAST_DEVIATION**2, variance_sd)
    deviation = np.sqrt(np.clip(variance, floor, CUT**2))
    deviation_sd = np.minimum(variance_sd / (2 * deviation), CUT)
    return missing, noise / _MISSING, mean, sd, deviation, deviation_sd


def _of_states(study: Study, means: Floats, noise: float, of_patients: float) -> _OfInputs:
    """Return the mean state, shrunk by what noise adds to its length (James and Stein 1961), and one deviation."""
    radius, mean = study.standardize.radius, means[:-1]
    length, of_noise = float(mean @ mean), len(mean) * noise**2
    shrunk = mean * max(0.0, 1 - of_noise / length) if length else mean
    shrunk = shrunk * min(1.0, radius / max(float(np.linalg.norm(shrunk)), 1e-12))
    variance = means[-1] * radius / _SQUARE - max(0.0, length - of_noise)
    deviation = np.sqrt(np.clip(np.array([variance]), (radius / 4) ** 2, radius**2))
    deviation_sd = np.minimum(noise * radius / _SQUARE / (2 * deviation), radius)
    return np.zeros(0), 0.0, shrunk, np.hypot(noise, of_patients * mean), deviation, deviation_sd


def _within(rows: Floats, most: float) -> Floats:
    """Return float64[N, ...] rows, those beyond the norm shortened to it."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    shortened: Floats = rows * np.minimum(1.0, most / np.maximum(norms, 1e-12))
    return shortened

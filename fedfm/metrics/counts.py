"""Patients counted by label and score, and their losses: sums that add up over sites and that noise can protect."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedfm.errors import ModelError

LOSS_CAP = 2.0
"""Most that one patient's cross-entropy counts, in nats: guessing evenly costs 0.69 with two classes and 1.61 with
five, so that a model that learns anything stays below, and the noise, which grows with it, stays small."""


def columns(classes: int, *, bins: int, is_last: bool) -> int:
    """Return K, the columns of a study's cells.

    Two classes: the score is split at one half until the last evaluation, which takes ``bins``
    (fewer cells bear the same noise better). More classes: one column for each predicted class.

    Args:
        classes: C, classes of the task.
        bins: Score bins of the last evaluation; even, so that one half is a border.
        is_last: Whether no evaluation follows.
    """
    if classes > 2:
        return classes
    return bins if is_last else 2


def patient_cells(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    patients: Sequence[str],
    *,
    bins: int,
    positive: int,
) -> NDArray[np.float64]:
    """Count patients by label and by score bin (two classes) or predicted class (more).

    Cells of two sites, or of two sets of patients, may be added.

    Args:
        probabilities: float[N, C], rows sum to 1.
        labels: int[N] in [0, C).
        patients: N identifiers; the unit of privacy.
        bins: Equal bins of the positive's score on [0, 1]; used with two classes only.
        positive: Index of the class whose probability is the score; used with two classes only.

    Returns:
        float64[C, K]; sums to the number of patients.

    Raises:
        ModelError: A probability is not finite.

    Guarantees:
        Each patient adds exactly 1 in all, split evenly over its examples, so that adding or
        removing one patient changes the table by at most 1 in L1 and therefore in L2.
    """
    _refuse_not_finite(probabilities)
    classes = probabilities.shape[1]
    column = _bin_of(probabilities[:, positive], bins) if classes == 2 else probabilities.argmax(axis=1)
    cells = np.zeros((classes, bins if classes == 2 else classes))
    np.add.at(cells, (labels, column), _shares(patients))
    return cells


def group_tables(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    patients: Sequence[str],
    *,
    members: Mapping[str, NDArray[np.bool_]],
    positive: int,
    bins: int = 2,
) -> dict[str, NDArray[np.float64]]:
    """Count patients by label and predicted class, or score bin, in each group of one attribute.

    Args:
        probabilities: float[N, C], rows sum to 1.
        labels: int[N] in [0, C).
        patients: N identifiers; the unit of privacy.
        members: Group to bool[N], the examples that are in it; no example is in two.
        positive: Index of the class that is predicted from a probability of one half on; used with two classes only.
        bins: More than 2: columns are equal bins of the positive's score, as in ``patient_cells``, where there are
            two classes. 2: columns are predicted classes.

    Returns:
        Group to float64[C, K], row by label and column by predicted class, or score bin.

    Raises:
        ModelError: A probability is not finite.

    Guarantees:
        Each patient adds at most 1 in all, split evenly over its examples, so that adding or removing one
        patient changes all tables together by at most 1 in L2. An example of no group adds nothing.
    """
    _refuse_not_finite(probabilities)
    classes = probabilities.shape[1]
    if classes > 2:
        column = probabilities.argmax(axis=1)
    elif bins > 2:
        column = _bin_of(probabilities[:, positive], bins)
    else:
        column = np.where(probabilities[:, positive] >= 0.5, positive, 1 - positive)
    shares, tables = _shares(patients), {}
    for group, inside in members.items():
        tables[group] = np.zeros((classes, bins if classes == 2 else classes))
        np.add.at(tables[group], (labels[inside], column[inside]), shares[inside])
    return tables


def by_class(table: NDArray[np.float64], *, positive: int) -> NDArray[np.float64]:
    """Return float64[C, C], by predicted class, of a group's table by predicted class or by score bin."""
    if table.shape[0] == table.shape[1]:
        return table
    low, high = halves(table).T
    return np.stack([high, low] if positive == 0 else [low, high], axis=1)


def halves(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float64[C, 2]: how many have a score below one half, and how many have one from it on."""
    middle = cells.shape[1] // 2
    return np.stack([cells[:, :middle].sum(axis=1), cells[:, middle:].sum(axis=1)], axis=1)


def clipped_loss(losses: NDArray[np.floating], patients: Sequence[str]) -> NDArray[np.float64]:
    """Return each patient's mean loss as a share of ``LOSS_CAP``, in order of the identifiers.

    Args:
        losses: float[N] cross-entropy of each example, in nats; what cannot be computed may be not-a-number.
        patients: N identifiers; the unit of privacy.

    Returns:
        float64[P]; not-a-number counts as the cap.

    Guarantees:
        Each is in [0, 1], so that their sum and their number change by at most 1 each when one patient
        comes or goes: together by at most sqrt(2) in L2.
    """
    if len(patients) == 0:
        return np.zeros(0)
    known = np.where(np.isnan(losses), np.inf, losses)
    _, patient = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    means = np.bincount(patient, weights=known) / np.bincount(patient)
    return np.clip(means / LOSS_CAP, 0.0, 1.0)


def _bin_of(scores: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    """Return int64[N], the bin of each score; a score of one is in the last."""
    found: NDArray[np.int64] = np.clip((scores * bins).astype(np.int64), 0, bins - 1)
    return found


def _shares(patients: Sequence[str]) -> NDArray[np.float64]:
    """Return float64[N], 1 over the number of examples of the patient of each."""
    if len(patients) == 0:
        return np.zeros(0)
    _, patient, notes = np.unique(np.asarray(patients, dtype=str), return_inverse=True, return_counts=True)
    shares: NDArray[np.float64] = 1.0 / notes[patient]
    return shares


def _refuse_not_finite(probabilities: NDArray[np.floating]) -> None:
    if not np.isfinite(probabilities).all():
        raise ModelError(
            "MODEL-E090",
            "the model's probabilities are not finite",
            fix="lower training.learning_rate; this round cannot be evaluated",
        )

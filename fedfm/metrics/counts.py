"""Patients counted by label and score: sums that add up over sites and that noise can protect."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedfm.errors import ModelError


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
    if not np.isfinite(probabilities).all():
        raise ModelError(
            "MODEL-E090",
            "the model's probabilities are not finite",
            fix="lower training.learning_rate; this round cannot be evaluated",
        )
    classes = probabilities.shape[1]
    if classes == 2:
        column = np.clip((probabilities[:, positive] * bins).astype(np.int64), 0, bins - 1)
    else:
        column = probabilities.argmax(axis=1)
    cells = np.zeros((classes, bins if classes == 2 else classes))
    if len(patients) == 0:
        return cells
    _, patient, notes = np.unique(np.asarray(patients, dtype=str), return_inverse=True, return_counts=True)
    np.add.at(cells, (labels, column), 1.0 / notes[patient])
    return cells

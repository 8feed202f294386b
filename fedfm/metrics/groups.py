"""How good a model is for one group of patients, from counts that may carry noise."""

from dataclasses import dataclass

import numpy as np

from fedfm.metrics.performance import LEAST_PATIENTS, OF_SCORES, Cells, Estimate, performance, share_of


@dataclass(frozen=True)
class GroupFigures:
    """What counts say about one group; None where there are too few patients to say it.

    Attributes:
        patients: Patients counted; its interval holds the noise only.
        accuracy: Share of patients with the right class.
        sensitivity: Share of positive patients found; two classes only.
        selection: Share of patients who are called positive; two classes only.
        specificity: Share of negative patients left alone; two classes only.
        auroc: As in ``Performance``; where the group is counted by more than two score bins, as all that follow.
        auprc: As in ``Performance``.
        brier: As in ``Performance``.
        calibration_error: As in ``Performance``.
        calibration_slope: As in ``Performance``.
        calibration_in_the_large: As in ``Performance``.
    """

    patients: Estimate
    accuracy: Estimate | None
    sensitivity: Estimate | None
    selection: Estimate | None
    specificity: Estimate | None = None
    auroc: Estimate | None = None
    auprc: Estimate | None = None
    brier: Estimate | None = None
    calibration_error: Estimate | None = None
    calibration_slope: Estimate | None = None
    calibration_in_the_large: Estimate | None = None


def group_figures(table: Cells, *, sd: float, positive: int) -> GroupFigures | None:
    """Estimate the figures of a group.

    Args:
        table: float64[C, K] patients by label and predicted class, or score bin, as
            ``fedfm.metrics.counts.group_tables`` counts them; noise may make some negative.
        sd: Standard deviation of the noise in each number; 0 where counts are exact.
        positive: Index of the positive class of a two-class task.

    Returns:
        None where the group has not ``LEAST_PATIENTS`` for certain.
    """
    of_all = performance(table, cells_sd=sd, positive=positive)
    if of_all.patients.low < LEAST_PATIENTS:
        return None

    def share(part: Cells, whole: Cells) -> Estimate | None:
        return share_of(table, part, whole, cells_sd=sd, least=LEAST_PATIENTS)

    classes, columns = table.shape
    everyone = np.ones_like(table)
    if classes > 2:
        return GroupFigures(of_all.patients, share(np.eye(classes), everyone), None, None)
    is_positive, is_called = np.zeros_like(table), np.zeros_like(table)
    is_positive[positive] = 1
    is_called[:, range(columns // 2, columns) if columns > 2 else positive] = 1
    found, spared = is_positive * is_called, (1 - is_positive) * (1 - is_called)
    sensitivity, specificity = share(found, is_positive), share(spared, 1 - is_positive)
    has_both = sensitivity is not None and specificity is not None and columns > 2
    return GroupFigures(
        patients=of_all.patients,
        accuracy=share(found + spared, everyone),
        sensitivity=sensitivity,
        selection=share(is_called, everyone),
        specificity=specificity,
        **{name: getattr(of_all, name) for name in OF_SCORES if has_both},
    )

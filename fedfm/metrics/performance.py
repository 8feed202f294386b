"""How good a model is, from cells that may carry noise, with what is not known about it.

Every figure f here is unchanged when all cells are multiplied by the same number, so that Euler's
theorem gives sum_i c_i df/dc_i = 0, and the delta method under multinomial sampling of patients
(Agresti 2013, Categorical Data Analysis, section 16.1) shrinks to

    var f = sum_i (df/dc_i)^2 (c_i + sd^2),

the first term for the patients, the second for independent noise of standard deviation sd in each cell.
Intervals are taken around the estimate with 4 / (C K) patients added to each cell (Agresti and Coull 1998),
so that 20 right answers of 20 do not give an interval of no width. A patient with several notes is spread
over cells; the formula then errs on the wide side.

Average precision and calibration have intervals from a parametric bootstrap of the cells
(``fedfm.metrics.calibration``): percentiles of the replicates (Efron and Tibshirani 1993, section 13.3).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedfm.metrics import calibration

Cells = NDArray[np.float64]

LEAST_PATIENTS = 11
"""Fewest patients of a figure, for certain: smaller cells are not shown (CMS cell size suppression policy)."""

_Z = 1.96  # 95 % of a normal distribution
_ADDED = 4.0  # patients, as in Agresti and Coull


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval.

    Attributes:
        value: The estimate from the cells as they are.
        low: Lower end; patients' sampling and the noise are both in it.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Performance:
    """What cells say about a model; None where they cannot say it.

    Attributes:
        patients: Patients counted; its interval holds the noise only.
        accuracy: Share of patients with the right class at the threshold one half, or by argmax.
        sensitivity: Share of positive patients found; two classes only.
        specificity: Share of negative patients left alone; two classes only.
        auroc: Chance that a positive scores above a negative, ties half; needs more than two score bins.
        prevalence: Share of positive patients; two classes only.
        brier: Mean squared distance of score (bin's middle) and outcome; needs more than two score bins.
        baseline: Accuracy of always answering the class that most of these patients have.
        auprc: Average precision, patients of one bin tied; needs more than two score bins, as all that follow.
        calibration_error: Expected calibration error over the score bins, a bin's middle being its score.
        calibration_slope: Slope of the outcome's log odds by the score's; 1 is right, below 1 overconfident.
        calibration_in_the_large: Share of positives minus mean score, in [-1, 1]; above 0 the scores are too low.
    """

    patients: Estimate
    accuracy: Estimate | None
    sensitivity: Estimate | None
    specificity: Estimate | None
    auroc: Estimate | None
    prevalence: Estimate | None
    brier: Estimate | None
    baseline: Estimate | None = None
    auprc: Estimate | None = None
    calibration_error: Estimate | None = None
    calibration_slope: Estimate | None = None
    calibration_in_the_large: Estimate | None = None


OF_SCORES = ("auroc", "brier", "auprc", "calibration_error", "calibration_slope", "calibration_in_the_large")
"""Figures that need more than two score bins."""

_Figure = Callable[[Cells], tuple[float, Cells]]
"""From cells to a figure and its gradient by cell."""


def performance(cells: Cells, *, cells_sd: float, positive: int) -> Performance:
    """Estimate every figure that the cells allow.

    Args:
        cells: float64[C, K] as ``fedfm.metrics.counts.patient_cells`` counts them; noise may make some negative.
        cells_sd: Standard deviation of the noise in each cell, in patients; 0 where counts are exact.
        positive: Index of the positive class of a two-class task.

    Returns:
        Where the counts have noise, a figure is None unless it is over ``LEAST_PATIENTS`` for certain, of each class
        that it compares. Exact counts are what a site shows under its own policy (``fedfm.metrics.suppression``).
    """
    least = LEAST_PATIENTS if cells_sd else 0.0
    total = float(cells.sum())
    spread = _Z * cells_sd * np.sqrt(cells.size)
    patients = Estimate(total, total - spread, total + spread)
    everyone = np.ones_like(cells)

    def share(part: Cells, whole: Cells) -> Estimate | None:
        return share_of(cells, part, whole, cells_sd=cells_sd, least=least)

    is_most_frequent = np.zeros_like(cells)
    is_most_frequent[cells.sum(axis=1).argmax()] = 1
    baseline = share(is_most_frequent, everyone)
    if len(cells) > 2:
        accuracy = share(np.eye(len(cells)), everyone)
        return Performance(patients, accuracy, None, None, None, None, None, baseline)
    is_positive = np.zeros_like(cells)
    is_positive[positive] = 1
    is_above = np.zeros_like(cells)
    is_above[:, cells.shape[1] // 2 :] = 1
    found, spared = is_positive * is_above, (1 - is_positive) * (1 - is_above)
    both = (is_positive, 1 - is_positive)
    has_bins = cells.shape[1] > 2
    by_class = has_bins and all(_are_many(cells, whole, cells_sd=cells_sd, least=least) for whole in both)
    return Performance(
        patients=patients,
        accuracy=share(found + spared, everyone),
        sensitivity=share(found, is_positive),
        specificity=share(spared, 1 - is_positive),
        auroc=_estimate(lambda c: _auroc(c, positive), cells, cells_sd, both) if by_class else None,
        prevalence=share(is_positive, everyone),
        brier=share(_squared_distance(cells.shape[1], positive), everyone) if has_bins else None,
        baseline=baseline,
        **(_of_scores(cells, cells_sd, positive) if by_class else {}),
    )


def share_of(cells: Cells, part: Cells, whole: Cells, *, cells_sd: float, least: float = 0.0) -> Estimate | None:
    """Estimate which share of the patients in ``whole`` is in ``part``.

    Args:
        cells: Patients, with noise.
        part: 1 for each cell of the part, which lies in the whole; or what each cell counts.
        whole: 1 for each cell of the whole, else 0.
        cells_sd: Standard deviation of the noise in each cell.
        least: Fewest patients that the whole must have for certain (95 %).

    Returns:
        None where the whole cannot be told from zero, or from fewer patients than ``least``.
    """
    if not _are_many(cells, whole, cells_sd=cells_sd, least=least):
        return None
    return _estimate(lambda c: _ratio(c, part, whole), cells, cells_sd, (whole,))


def _are_many(cells: Cells, whole: Cells, *, cells_sd: float, least: float) -> bool:
    """Whether the whole has as many patients as ``least`` for certain (95 %)."""
    return bool((cells * whole).sum() - _Z * cells_sd * np.sqrt(whole.sum()) >= least)


def _of_scores(cells: Cells, cells_sd: float, positive: int) -> dict[str, Estimate | None]:
    """Estimate average precision and calibration; None where a class cannot be told from nobody."""
    names = ("auprc", "calibration_error", "calibration_slope", "calibration_in_the_large")
    noise = 2 * cells_sd * np.sqrt(cells.shape[1])
    if (cells.sum(axis=1) <= max(noise, 1e-9)).any():
        return dict.fromkeys(names)
    drawn = calibration.replicates(cells + _ADDED / cells.size, cells_sd)
    surplus = np.broadcast_to(-calibration.middles(cells.shape[1]), cells.shape).copy()
    surplus[positive] += 1
    return {
        "auprc": _percentiles(calibration.average_precision, cells, drawn, positive),
        "calibration_error": _calibration_error(cells, drawn, positive),
        "calibration_slope": _percentiles(calibration.calibration_slope, cells, drawn, positive),
        "calibration_in_the_large": _estimate(
            lambda c: _ratio(c, surplus, np.ones_like(c)), cells, cells_sd, (np.ones_like(cells),), span=(-1.0, 1.0)
        ),
    }


def _percentiles(figure: Callable[[Cells, int], Cells], cells: Cells, drawn: Cells, positive: int) -> Estimate | None:
    """Return a figure and the middle 95 % of its replicates; None where it, or one in 20 of them, is not defined."""
    value, found = float(figure(cells, positive)), figure(drawn, positive)
    known = found[np.isfinite(found)]
    if not np.isfinite(value) or len(known) < 0.95 * len(found):
        return None
    low, high = np.quantile(known, [0.025, 0.975])
    return Estimate(value, min(float(low), value), max(float(high), value))


def _calibration_error(cells: Cells, drawn: Cells, positive: int) -> Estimate:
    """Estimate the expected calibration error, which patients' sampling and noise can only raise on average.

    So the lower end takes off what they alone make of a perfect score in 97.5 % (triangle inequality), and the
    upper end needs no more than the replicates' spread (Jensen's inequality).
    """
    value = float(calibration.calibration_error(cells, positive))
    alone = calibration.patients_apart(drawn - drawn.mean(axis=0), positive) / cells.sum()
    spread = _Z * float(np.std(calibration.patients_apart(drawn, positive) / cells.sum()))
    value, low, high = (min(max(end, 0.0), 1.0) for end in (value, value - np.quantile(alone, 0.975), value + spread))
    return Estimate(value, float(low), float(high))


def mean_of(total: float, count: float, *, sd: float, low: float, high: float) -> Estimate | None:
    """Estimate the mean of ``count`` values in [low, high] that add up to ``total``.

    Their variance is at most (high - m) (m - low) (Bhatia and Davis 2000, equation 1); noise of standard deviation
    sd in sum and count adds sd^2 (1 + m^2) / n^2 to that of the mean m (delta method). The interval holds both.

    Args:
        total: Sum, with noise.
        count: Number of values, with noise of the same size.
        sd: Standard deviation of the noise in each of the two.
        low: Least value.
        high: Largest value.

    Returns:
        None where there are none, or no telling whether there are any.
    """
    if count <= max(2 * sd, 0):
        return None
    mean = min(high, max(low, total / count))
    variance = (high - mean) * (mean - low) / count + (sd / count) ** 2 * (1 + mean**2)
    half = _Z * float(np.sqrt(variance))
    return Estimate(mean, max(low, mean - half), min(high, mean + half))


def _estimate(
    figure: _Figure,
    cells: Cells,
    cells_sd: float,
    denominators: tuple[Cells, ...],
    span: tuple[float, float] = (0.0, 1.0),
) -> Estimate | None:
    """Apply the delta method; None where a denominator cannot be told from zero. ``span`` holds the figure."""
    for whole in denominators:
        noise = cells_sd * np.sqrt(whole.sum())
        if (cells * whole).sum() <= max(2 * noise, 1e-9):
            return None
    value, _ = figure(cells)
    widened = cells + _ADDED / cells.size
    centre, gradient = figure(widened)
    half = _Z * float(np.sqrt((gradient**2 * (np.maximum(widened, 0) + cells_sd**2)).sum()))
    least, most = span
    value = min(max(value, least), most)
    return Estimate(value, max(least, min(centre - half, value)), min(most, max(centre + half, value)))


def _ratio(cells: Cells, part: Cells, whole: Cells) -> tuple[float, Cells]:
    """Return (part . cells) / (whole . cells) and its gradient."""
    denominator = (cells * whole).sum()
    value = (cells * part).sum() / denominator
    return float(value), (part - value * whole) / denominator


def _auroc(cells: Cells, positive: int) -> tuple[float, Cells]:
    """Return the Mann-Whitney statistic over bins, ties half, and its gradient (Hanley and McNeil 1982)."""
    above, below = cells[positive], cells[1 - positive]
    n_above, n_below = above.sum(), below.sum()
    wins = np.tril(np.ones((len(above), len(above))), -1) + 0.5 * np.eye(len(above))  # [bin of positive, of negative]
    value = above @ wins @ below / (n_above * n_below)
    gradient = np.empty_like(cells)
    gradient[positive] = wins @ below / (n_above * n_below) - value / n_above
    gradient[1 - positive] = above @ wins / (n_above * n_below) - value / n_below
    return float(value), gradient


def _squared_distance(bins: int, positive: int) -> Cells:
    """Return float64[2, K]: squared distance of each bin's middle from each outcome."""
    middle = (np.arange(bins) + 0.5) / bins
    distance = np.empty((2, bins))
    distance[positive], distance[1 - positive] = (1 - middle) ** 2, middle**2
    return distance

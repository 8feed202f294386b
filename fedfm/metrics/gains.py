"""Whether hospitals fare better with the federated model than with one trained on their own patients alone.

Both models answer the same test patients, so that their figures are correlated, by how much the counts do not say.
The intervals hold for whatever the correlation is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedfm.metrics.performance import Cells, Estimate, performance

GAINS = ("accuracy", "auroc")
"""Figures that are compared."""

_Z = 1.96


@dataclass(frozen=True)
class Counted:
    """Patients counted by label and score or predicted class.

    Attributes:
        cells: float64[C, K] as ``fedfm.metrics.counts.patient_cells`` counts them, with noise.
        sd: Standard deviation of the noise in each cell; 0 where counts are exact.
    """

    cells: Cells
    sd: float


@dataclass(frozen=True)
class Tally:
    """At how many sites the federated model does better than one trained there alone, by the 95 % intervals.

    Attributes:
        gained: The whole interval of the gain is above 0.
        lost: The whole interval is below 0.
        unclear: 0 is in the interval: too few patients, or too much noise.
        untold: A figure is missing, of one model or the other.
    """

    gained: int
    lost: int
    unclear: int
    untold: int


def gains(federated: Counted, alone: Counted, *, positive: int) -> dict[str, Estimate | None]:
    """Estimate how much more the federated model gets right.

    Args:
        federated: Its answers on a site's test patients.
        alone: The answers of the model trained alone, on the same patients; another number of columns will do.
        positive: Index of the positive class of a two-class task.

    Returns:
        ``accuracy`` and ``auroc`` to federated minus alone, in [-1, 1]; None where one of the two is not known.
    """
    ours, own = (performance(one.cells, cells_sd=one.sd, positive=positive) for one in (federated, alone))
    is_known = ours.accuracy is not None and own.accuracy is not None
    return {
        "accuracy": _accuracy(federated, alone, positive) if is_known else None,
        "auroc": _apart(ours.auroc, own.auroc),
    }


def tally(found: Mapping[str, Mapping[str, Estimate | None]]) -> dict[str, Tally]:
    """Count the sites by what their gain says, for each figure.

    Args:
        found: Site to figure to the gain over training alone; None where it is not known.
    """
    names = dict.fromkeys(name for gain in found.values() for name in gain)
    return {name: _tally([gain.get(name) for gain in found.values()]) for name in names}


def _tally(found: Sequence[Estimate | None]) -> Tally:
    known = [gain for gain in found if gain is not None]
    gained, lost = sum(gain.low > 0 for gain in known), sum(gain.high < 0 for gain in known)
    return Tally(gained, lost, len(known) - gained - lost, len(found) - len(known))


def _accuracy(federated: Counted, alone: Counted, positive: int) -> Estimate:
    """Return the difference of two accuracies p, q on the same n patients.

    A patient adds -1, 0 or 1 to it, so that its variance is (E|x| - (p - q)^2) / n, and E|x|, the chance that just
    one is right, is at most min(p + q, 2 - p - q) (Fréchet 1951). Noise adds to it by the delta method. For the
    variance two right answers and two wrong ones are added to each (Agresti and Coull 1998).
    """
    right, patients, noise = np.array([_right(one, positive) for one in (federated, alone)]).T
    value = float(np.subtract(*np.clip(right / patients, 0.0, 1.0)))
    shares = (np.clip(right, 0.0, patients) + 2) / (patients + 4)
    apart = min(shares.sum(), 2 - shares.sum()) - (shares[0] - shares[1]) ** 2
    half = _Z * float(np.sqrt(apart / patients.min() + noise.sum()))
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half))


def _right(counted: Counted, positive: int) -> tuple[float, float, float]:
    """Return the right answers, the patients, and the variance that the noise alone gives to their ratio."""
    cells, middle = counted.cells, counted.cells.shape[1] // 2
    is_right = np.eye(len(cells), cells.shape[1])
    if len(cells) == 2:
        is_right[positive], is_right[1 - positive] = np.arange(2 * middle) >= middle, np.arange(2 * middle) < middle
    right, patients = float((cells * is_right).sum()), float(cells.sum())
    share = min(max(right / patients, 0.0), 1.0)
    weight = ((is_right - share) ** 2).sum()
    return right, patients, float(weight * (counted.sd / patients) ** 2)


def _apart(ours: Estimate | None, own: Estimate | None) -> Estimate | None:
    """Return the difference of two figures; the ends are the worst that both intervals allow."""
    if ours is None or own is None:
        return None
    return Estimate(ours.value - own.value, ours.low - own.high, ours.high - own.low)

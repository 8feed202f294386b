"""Rates of several groups, each a share of some of its patients, with noise in both."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fedfm.metrics.performance import Cells

Each = NDArray[np.float64]
"""float64[G] or float64[B, G]: one number of each group."""

_DRAWS = 2000
_SEED = 20_240_229  # public: the same counts have the same interval wherever the report is rendered
_TAIL = 0.05
_MOST_GROUPS = 20


@dataclass(frozen=True)
class Rates:
    """One rate of G groups.

    Attributes:
        part: float64[G] patients of whom it is true, with noise.
        rest: float64[G] the others that it is asked of, with noise.
        part_sd: Standard deviation of the noise in each part.
        rest_sd: The same in each rest.
    """

    part: Each
    rest: Each
    part_sd: float
    rest_sd: float

    @property
    def share(self) -> Each:
        """Return float64[G] in [0, 1]."""
        return np.clip(self.part / (self.part + self.rest), 0.0, 1.0)


def rates(tables: Sequence[Cells], name: str, *, sd: float, positive: int, least: float) -> Rates | None:
    """Count what a rate is made of.

    Args:
        tables: G times float64[C, C], patients by label and predicted class.
        name: ``selected`` of all, ``found`` of the positives, ``false_alarm`` of the negatives, ``right`` of all.
        sd: Standard deviation of the noise in each cell.
        positive: Index of the positive class of a two-class task.
        least: Fewest patients for certain (95 %) that a rate may be over.

    Returns:
        None where a group has fewer; the largest of such rates would not be the largest of all.
    """
    classes = len(tables[0])
    part, whole = _masks(name, classes, positive)
    patients = np.array([(table * whole).sum() for table in tables])
    if (patients - NormalDist().inv_cdf(0.975) * sd * np.sqrt(whole.sum()) < max(least, 1e-9)).any():
        return None
    true = np.array([(table * part).sum() for table in tables])
    sds = sd * np.sqrt(part.sum()), sd * np.sqrt((whole - part).sum())
    return Rates(true, patients - true, float(sds[0]), float(sds[1]))


def _masks(name: str, classes: int, positive: int) -> tuple[Cells, Cells]:
    """Return the cells of which a rate is true, and those that it is asked of; 0 or 1 each."""
    called, everyone = np.zeros((classes, classes)), np.ones((classes, classes))
    called[:, positive] = 1
    asked = {"found": called.T, "false_alarm": 1 - called.T}.get(name, everyone)
    return (np.eye(classes) if name == "right" else called * asked), asked


def wilson(found: Rates, z: float) -> tuple[Each, Each]:
    """Return how far below and above each share its interval reaches.

    Source: Wilson 1927, with the number of patients that, without noise, would leave the same variance.
    """
    share, variance, patients = found.share, _variance(found), found.part + found.rest
    shrunk = _shrunk(found)
    worth = np.minimum(patients, shrunk * (1 - shrunk) / variance)
    scale = 1 + z**2 / worth
    centre = (share + z**2 / (2 * worth)) / scale
    half = z * np.sqrt(share * (1 - share) / worth + z**2 / (4 * worth**2)) / scale
    return share - np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0) - share


def critical(found: Rates, among: int) -> float:
    """Return the number of standard errors that no pair's difference exceeds in 95 %, over ``among`` such rates.

    Of two groups it is the normal distribution's; of more it is bootstrapped from the counts; of so many rates or
    groups that draws would be too few or take too long, that of Bonferroni's inequality.
    """
    groups = len(found.part)
    pairs, tail = groups * (groups - 1) // 2, _TAIL / among
    normal = NormalDist().inv_cdf(1 - tail / 2)
    if pairs == 1:
        return normal
    if tail * _DRAWS < 20 or groups > _MOST_GROUPS:
        return NormalDist().inv_cdf(1 - tail / (2 * pairs))
    return max(normal, float(np.quantile(_largest_apart(found), 1 - tail)))


def _largest_apart(found: Rates) -> Each:
    """Return float64[B]: of groups with their own chances drawn anew, the largest error of a pair in its own units."""
    order = np.lexsort((found.part, found.rest))  # so that the groups' names have no part in the draws
    found = Rates(found.part[order], found.rest[order], found.part_sd, found.rest_sd)
    chance, truth, patients = np.random.default_rng(_SEED), _shrunk(found), found.part + found.rest
    shape = (_DRAWS, len(patients))
    part = chance.poisson(patients * truth, shape) + chance.normal(0, found.part_sd, shape)
    rest = chance.poisson(patients * (1 - truth), shape) + chance.normal(0, found.rest_sd, shape)
    drawn = Rates(part, np.maximum(rest, 1.0 - part), found.part_sd, found.rest_sd)
    error, variance = drawn.share - truth, _variance(drawn)
    pairs = itertools.combinations(range(len(patients)), 2)
    apart = [np.abs(error[:, i] - error[:, j]) / np.sqrt(variance[:, i] + variance[:, j]) for i, j in pairs]
    largest: Each = np.max(apart, axis=0)
    return largest


def _shrunk(found: Rates) -> Each:
    """Return the shares with four patients more, half of them true (Agresti and Coull 1998), inside (0, 1)."""
    patients = found.part + found.rest
    return np.asarray((np.clip(found.part, 0.0, patients) + 2) / (patients + 4))


def _variance(found: Rates) -> Each:
    """Return the variance of each share by the delta method: the patients' and, on top, the noise's."""
    share, patients = _shrunk(found), found.part + found.rest
    noise = (found.part_sd * (1 - share)) ** 2 + (found.rest_sd * share) ** 2
    return np.asarray(share * (1 - share) / patients + noise / patients**2)

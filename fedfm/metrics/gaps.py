"""How far apart a model treats groups of patients, from counts that may carry noise.

A group has four rates: called positive, found among positives, called among negatives, right. A gap is the largest
rate minus the smallest, and their ratio, as fairlearn defines them; where fairlearn says 0 of a group without
positives, here nothing is said at all.

A gap of estimates is too large on average, so that its interval is not taken around it. Each rate has an interval of
Wilson (1927) with as many patients as the noise leaves, each pair of groups one of Newcombe (1998, method 10) for the
difference and of Donner and Zou (2012, MOVER-R) for the ratio. The gap is at least each pair's difference and at most
the largest of them. So its upper end is the largest upper end; its lower end is the largest lower end, taken with a
critical value that holds for all pairs at once, from a parametric bootstrap of the counts where there are more than
two groups.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fedfm.metrics.performance import LEAST_PATIENTS, Cells, Estimate
from fedfm.metrics.rates import Rates, critical, rates, wilson

GAPS = ("demographic_parity", "equal_opportunity", "equalized_odds", "accuracy")
"""Names of the gaps, as in ``fairness.limits``."""


@dataclass(frozen=True)
class Gap:
    """How far apart groups are in one rate, or in the worse of two.

    Attributes:
        difference: Largest minus smallest of the groups' rates, in [0, 1].
        ratio: Smallest over largest, in [0, 1]; None where the largest is 0.
    """

    difference: Estimate
    ratio: Estimate | None


@dataclass(frozen=True)
class LocalGap:
    """Differences within single sites: a model may be even over all patients, and uneven in every hospital.

    Attributes:
        worst: The largest difference of a site.
        site: Whose it is.
        mean: The mean over the sites whose difference is known.
        sites: How many these are.
    """

    worst: Estimate
    site: str
    mean: Estimate
    sites: int


@dataclass(frozen=True)
class Tables:
    """Patients of the groups of one attribute.

    Attributes:
        groups: Group to float64[C, C], by label and predicted class; noise may make some negative.
        sd: Standard deviation of the noise in each number; 0 where counts are exact.
    """

    groups: Mapping[str, Cells]
    sd: float


def gaps(tables: Tables, *, positive: int, least: int = LEAST_PATIENTS, among: int = 1) -> dict[str, Gap | None]:
    """Estimate every gap between the groups of one attribute.

    Args:
        tables: Two groups or more; one that certainly has no patient (exact, all 0) is left out.
        positive: Index of the positive class of a two-class task; more classes have a gap in accuracy only.
        least: Fewest patients for certain of every group that a rate is over.
        among: The gaps that are looked at together, of which the largest is picked: lower ends hold for all at once.

    Returns:
        Name in ``GAPS`` to the gap; None where a group has fewer than ``least``, so that nobody knows the whole gap.
    """
    present = [table for table in tables.groups.values() if tables.sd > 0 or table.any()]

    def gap(*named: str) -> Gap | None:
        found = [rates(present, part, sd=tables.sd, positive=positive, least=least) for part in named]
        return _worst_of([None if one is None else _gap(one, among * len(named)) for one in found])

    if len(present) < 2:
        return dict.fromkeys(GAPS)
    if len(present[0]) > 2:
        return {**dict.fromkeys(GAPS), "accuracy": gap("right")}
    return {
        "demographic_parity": gap("selected"),
        "equal_opportunity": gap("found"),
        "equalized_odds": gap("found", "false_alarm"),
        "accuracy": gap("right"),
    }


def local_gaps(
    sites: Mapping[str, Tables], *, positive: int, least: int = LEAST_PATIENTS
) -> dict[str, LocalGap | None]:
    """Estimate the worst and the mean of the sites' own differences.

    Args:
        sites: Site to its groups of one attribute; one or more.
        positive: As in ``gaps``.
        least: As in ``gaps``.

    Returns:
        Name in ``GAPS`` to the two; None where no site's gap is known. The interval of the mean is the mean of the
        sites' ends, which is wider than it must be, for sites' errors are independent.
    """
    alone = {site: gaps(tables, positive=positive, least=least) for site, tables in sites.items()}
    together = {site: gaps(tables, positive=positive, least=least, among=len(sites)) for site, tables in sites.items()}
    found: dict[str, LocalGap | None] = {}
    for name in GAPS:
        known = {site: gap.difference for site in sites if (gap := alone[site][name]) is not None}
        low = max((gap.difference.low for site in known if (gap := together[site][name]) is not None), default=0.0)
        found[name] = _local(known, low) if known else None
    return found


def _local(known: Mapping[str, Estimate], low: float) -> LocalGap:
    site = max(known, key=lambda name: known[name].value)
    worst = Estimate(known[site].value, low, max(one.high for one in known.values()))
    mean = Estimate(*(sum(ends) / len(known) for ends in zip(*(_ends(one) for one in known.values()), strict=True)))
    return LocalGap(worst, site, mean, len(known))


def _ends(figure: Estimate) -> tuple[float, float, float]:
    return figure.value, figure.low, figure.high


def _worst_of(found: Sequence[Gap | None]) -> Gap | None:
    """Return the larger difference and the smaller ratio, as fairlearn does for equalized odds."""
    known = [gap for gap in found if gap is not None]
    if len(known) < len(found):
        return None
    ratios = [gap.ratio for gap in known if gap.ratio is not None]
    return Gap(
        _picked([gap.difference for gap in known], max),
        _picked(ratios, min) if len(ratios) == len(known) else None,
    )


def _picked(figures: Sequence[Estimate], pick: Callable[..., float]) -> Estimate:
    return Estimate(*(pick(ends) for ends in zip(*(_ends(figure) for figure in figures), strict=True)))


def _gap(found: Rates, among: int) -> Gap:
    """Return the gap of one rate; see the head of this file."""
    share = found.share
    single, joint = NormalDist().inv_cdf(0.975), critical(found, among)
    larger, smaller = np.nonzero(~np.eye(len(share), dtype=bool))
    apart = share[larger] - share[smaller]
    (below, _), (_, above) = (_newcombe(apart, wilson(found, z), larger, smaller) for z in (joint, single))
    difference = Estimate(float(apart.max()), max(0.0, float(below.max())), min(1.0, float(above.max())))
    if share.max() == 0:
        return Gap(difference, None)
    (lower, _), (_, upper) = (_donner_zou(share, wilson(found, z), larger, smaller) for z in (single, joint))
    value = float(share.min() / share.max())
    low, high = max(0.0, float(lower.min())), min(1.0, float(upper.min()))
    return Gap(difference, Estimate(value, min(value, low), max(value, high)))


_Ends = tuple[NDArray[np.float64], NDArray[np.float64]]


def _newcombe(apart: Cells, ends: _Ends, one: NDArray[np.intp], other: NDArray[np.intp]) -> _Ends:
    """Return the ends of the difference of each pair; ``ends`` holds the distances of each rate's ends from it."""
    below, above = ends
    return apart - np.hypot(below[one], above[other]), apart + np.hypot(above[one], below[other])


def _donner_zou(share: Cells, ends: _Ends, one: NDArray[np.intp], other: NDArray[np.intp]) -> _Ends:
    """Return the ends of the ratio of each pair; the lower one is written so that it has no removable pole."""
    below, above = ends
    product = share[one] * share[other]
    # l (2 p - l) = p^2 - (p - l)^2, and the same of u
    rest = (np.maximum(share**2 - below**2, 0.0), share**2 - above**2)
    down = product + np.sqrt(np.maximum(product**2 - rest[0][one] * rest[1][other], 0.0))
    up = product + np.sqrt(np.maximum(product**2 - rest[1][one] * rest[0][other], 0.0))
    low = np.divide(rest[0][one], down, out=np.zeros_like(down), where=down > 0)
    high = np.divide(up, rest[0][other], out=np.full_like(up, np.inf), where=rest[0][other] > 0)
    return low, high

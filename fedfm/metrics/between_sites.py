"""How unlike hospitals fare with one model, from each hospital's figure and its interval.

Jain's index and Gini's coefficient are of what a hospital has too much of, its error or its loss. Of accuracies they
say nothing: with 0.95 and 0.75 Jain's index is 0.986, though one hospital bears five times the other's errors, of
which it is 0.69.

Estimates differ even where the truth does not, so that worst, range and spread of them are too large on average. The
ends that could claim a difference therefore hold for all sites, or all pairs, at once (Bonferroni), and those of
standard deviation, Jain and Gini take off what the estimates' errors alone can make of them: they are seminorms,
which errors move by at most their own. Sites' errors are independent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fedfm.metrics.performance import Estimate

_Z = 1.96
_TAIL = 0.05
_DRAWS = 2000
_SEED = 20_240_229  # public: the same figures have the same interval wherever the report is rendered

_Each = NDArray[np.float64]
"""float64[K]: one number of each site."""

_Measure = Callable[[_Each], _Each]
"""From float64[..., K] to float64[...]."""


@dataclass(frozen=True)
class Spread:
    """How one figure spreads over sites, each counting once whatever its size.

    Attributes:
        sites: Sites whose figure is known; 2 or more.
        worst: The figure of the site that fares worst; its interval holds the chance of being picked as the worst.
        worst_site: Its name.
        best: The figure of the site that fares best, likewise.
        best_site: Its name.
        mean: Mean over sites.
        shortfall: How much worse than the mean the worst site fares; 0 or more.
        range: How much worse than the best the worst site fares; 0 or more.
        sd: Standard deviation over sites (divided by their number).
        jain: Jain's index of error or loss: 1 where all bear the same, 1 / sites where one bears all;
            None where the mean cannot be told from zero.
        gini: Gini coefficient of error or loss: 0 where all bear the same; None like ``jain``.
    """

    sites: int
    worst: Estimate
    worst_site: str
    best: Estimate
    best_site: str
    mean: Estimate
    shortfall: Estimate
    range: Estimate
    sd: Estimate
    jain: Estimate | None
    gini: Estimate | None


def spread(figures: Mapping[str, Estimate], *, is_loss: bool, most: float) -> Spread | None:
    """Compare sites by one figure.

    Args:
        figures: Site to its figure in [0, most].
        is_loss: Whether less is better; else the error, most - figure, is what a site bears.
        most: Largest value that the figure can have.

    Returns:
        None of fewer than two sites.
    """
    if len(figures) < 2:
        return None
    sites = sorted(figures)
    borne = np.array([figures[site].value if is_loss else most - figures[site].value for site in sites])
    errors = np.array([max(one.high - one.value, one.value - one.low) / _Z for one in map(figures.__getitem__, sites)])
    of_all = _normal(_TAIL / len(sites))
    worst, best = int(borne.argmax()), int(borne.argmin())
    bad = _clipped(borne[worst], (borne - of_all * errors).max(), (borne + _Z * errors).max(), most)
    good = _clipped(borne[best], (borne - _Z * errors).min(), (borne + of_all * errors).min(), most)
    half = _Z * float(np.hypot.reduce(errors)) / len(sites)
    mean = _clipped(borne.mean(), borne.mean() - half, borne.mean() + half, most)
    sd, jain, gini = _unevenness(borne, errors, mean)

    def said(of: Estimate) -> Estimate:
        return of if is_loss else Estimate(most - of.value, most - of.high, most - of.low)

    return Spread(
        sites=len(sites),
        worst=said(bad),
        worst_site=sites[worst],
        best=said(good),
        best_site=sites[best],
        mean=said(mean),
        shortfall=_shortfall(borne, errors, most),
        range=_range(borne, errors, most),
        sd=sd,
        jain=jain,
        gini=gini,
    )


def _shortfall(borne: _Each, errors: _Each, most: float) -> Estimate:
    """Return how much more than the mean the worst site bears: at least each site's own excess, at most the largest."""
    count = len(borne)
    above = borne - borne.mean()
    shares = np.eye(count) - 1 / count  # of each site's error in each site's excess
    own = np.sqrt((shares**2) @ errors**2)
    of_all = _normal(_TAIL / count)
    return _clipped(above.max(), (above - of_all * own).max(), (above + _Z * own).max(), most)


def _range(borne: _Each, errors: _Each, most: float) -> Estimate:
    one, other = np.nonzero(~np.eye(len(borne), dtype=bool))
    apart, own = borne[one] - borne[other], np.hypot(errors[one], errors[other])
    of_all = _normal(2 * _TAIL / len(one))  # half of the ordered pairs are the others turned round
    return _clipped(apart.max(), (apart - of_all * own).max(), (apart + _Z * own).max(), most)


def _unevenness(borne: _Each, errors: _Each, mean: Estimate) -> tuple[Estimate, Estimate | None, Estimate | None]:
    """Return standard deviation, Jain's index and Gini's coefficient.

    J = 1 / (1 + sd^2 / mean^2),  G = sum over all pairs of |x - y| / (2 K^2 mean)

    Source: Jain, Chiu and Hawe 1984, equation 1, written with the coefficient of variation; Gini 1912.
    """
    chance = np.random.default_rng(_SEED).normal(0.0, errors, (_DRAWS, len(errors)))
    sd, apart = (_seminorm(of, borne, chance) for of in (_deviation, _half_difference))
    if mean.low <= 0:
        return sd, None, None
    means = (mean.value, mean.high, mean.low)  # a larger mean makes the same spread less uneven
    relative = [end / over for end, over in zip(_ends(sd), means, strict=True)]
    jain = [1 / (1 + ratio**2) for ratio in relative]
    gini = [min(end / over, 1.0) for end, over in zip(_ends(apart), means, strict=True)]
    return sd, Estimate(jain[0], jain[2], jain[1]), Estimate(*gini)


def _deviation(values: _Each) -> _Each:
    return np.asarray(values.std(axis=-1))


def _half_difference(values: _Each) -> _Each:
    """Return half of the mean distance over all pairs, each with itself among them, from the values in order."""
    count = values.shape[-1]
    return np.asarray(np.sort(values, axis=-1) @ (2 * np.arange(count) - count + 1.0) / count**2)


def _seminorm(of: _Measure, borne: _Each, chance: _Each) -> Estimate:
    """Return a seminorm of what is borne: errors alone lower it by at most their own, and on average raise it."""
    value = float(of(borne))
    low, high = value - float(np.quantile(of(chance), 0.975)), value + _Z * float(np.std(of(borne + chance)))
    return Estimate(value, max(0.0, low), max(value, high))


def _clipped(value: float, low: float, high: float, most: float) -> Estimate:
    value = float(value)
    return Estimate(value, max(0.0, min(float(low), value)), min(most, max(float(high), value)))


def _normal(tail: float) -> float:
    """Return the number of standard deviations that a normal distribution exceeds with chance ``tail``, either way."""
    return NormalDist().inv_cdf(1 - tail / 2)


def _ends(figure: Estimate) -> tuple[float, float, float]:
    return figure.value, figure.low, figure.high

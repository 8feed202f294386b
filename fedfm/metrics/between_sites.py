"""How unlike hospitals fare with one model, and whether each fares better than alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedfm.metrics.performance import Estimate


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


def tally(gains: Mapping[str, Mapping[str, Estimate | None]]) -> dict[str, Tally]:
    """Count the sites by what their gain says, for each figure.

    Args:
        gains: Site to figure to the gain over training alone; None where it is not known.
    """
    names = dict.fromkeys(name for gain in gains.values() for name in gain)
    return {name: _tally([gain.get(name) for gain in gains.values()]) for name in names}


def _tally(gains: list[Estimate | None]) -> Tally:
    known = [gain for gain in gains if gain is not None]
    gained, lost = sum(gain.low > 0 for gain in known), sum(gain.high < 0 for gain in known)
    return Tally(gained, lost, len(known) - gained - lost, len(gains) - len(known))

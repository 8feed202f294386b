"""How far apart a model treats groups of patients, from counts that may carry noise."""

from dataclasses import dataclass

from fedfm.metrics.performance import Estimate

GAPS = ("demographic_parity", "equal_opportunity", "equalized_odds", "accuracy")
"""Names of the gaps, as in ``fairness.limits``."""


@dataclass(frozen=True)
class Gap:
    """How far apart groups are in one figure, or in the worse of two.

    Attributes:
        difference: Largest minus smallest of the groups' figures, in [0, 1].
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

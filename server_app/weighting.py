"""How much each site counts when the coordinator averages their updates.

A weighting rule maps what the sites reported to non-negative weights that sum to 1.
To add one: write a function with the signature of ``cohort``, add it to ``RULES``, and
add ``conf/weighting/<name>.yaml``. Keyword-only arguments are the rule's parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]


@dataclass(frozen=True)
class SiteReport:
    """What a weighting rule may look at: public or noised, and never an update itself.

    Attributes:
        site: The site's id.
        declared_patients: Public, rounded cohort size.
    """

    site: str
    declared_patients: int


Weighting = Callable[[Sequence[SiteReport]], Weights]


def cohort(reports: Sequence[SiteReport]) -> Weights:
    """Weigh by declared cohort size (FedAvg, McMahan et al. 2017, arXiv:1602.05629, algorithm 1).

    Returns:
        float64[S], in the order of ``reports``; non-negative, sums to 1.
    """
    return _normalised(np.array([report.declared_patients for report in reports], dtype=np.float64))


def uniform(reports: Sequence[SiteReport]) -> Weights:
    """Weigh every site the same, whatever its size.

    Returns:
        float64[S]; each 1 / S.
    """
    return _normalised(np.ones(len(reports)))


def _normalised(sizes: Weights) -> Weights:
    weights: Weights = sizes / sizes.sum()
    return weights


RULES: Mapping[str, Callable[..., Weights]] = {"cohort": cohort, "uniform": uniform}

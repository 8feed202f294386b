"""The weighting rules by name.

A rule maps what was heard of the sites to the coefficients of their updates. To add one: write a function with the
signature of ``cohort``, add it to ``RULES``, say in ``fedfm.signals`` what it needs, and add
``conf/weighting/<name>.yaml``. Keyword-only arguments are the rule's parameters.
"""

from collections.abc import Callable, Mapping

import numpy as np

from server_app.weighting.heard import Heard, Weighed, Weights


def cohort(heard: Heard) -> Weighed:
    """Weigh by declared cohort size (FedAvg, McMahan et al. 2017, arXiv:1602.05629, algorithm 1).

    Returns:
        Weights that are non-negative and sum to 1.
    """
    return Weighed(_normalised(np.array([report.declared_patients for report in heard.reports], dtype=np.float64)))


def uniform(heard: Heard) -> Weighed:
    """Weigh every site the same, whatever its size.

    Returns:
        Weights of 1 / S each.
    """
    return Weighed(_normalised(np.ones(len(heard.reports))))


def _normalised(sizes: Weights) -> Weights:
    weights: Weights = sizes / sizes.sum()
    return weights


RULES: Mapping[str, Callable[..., Weighed]] = {"cohort": cohort, "uniform": uniform}

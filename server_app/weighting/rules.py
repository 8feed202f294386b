"""The weighting rules by name.

A rule maps what was heard of the sites to the coefficients of their updates. To add one: write a function with the
signature of ``cohort``, add it to ``RULES``, say in ``fedfm.signals`` what it needs, in
``fedfm.config.coherence.weighting`` what its parameters may be, and add ``conf/weighting/<name>.yaml``. Keyword-only
arguments are the rule's parameters. A rule whose weights are non-negative and sum to 1 goes through ``guarded``.
"""

from collections.abc import Callable, Mapping

import numpy as np

from server_app.weighting.gap import fairfed
from server_app.weighting.gram import cgsv, fedfv, mgda
from server_app.weighting.guards import normalised, shares
from server_app.weighting.heard import Heard, Weighed
from server_app.weighting.loss import dro, power, propfair, tilt
from server_app.weighting.steps import fednova


def cohort(heard: Heard) -> Weighed:
    """Weigh by declared cohort size (FedAvg, McMahan et al. 2017, arXiv:1602.05629, algorithm 1).

    Returns:
        Weights that are non-negative and sum to 1.
    """
    return Weighed(shares(heard.reports))


def uniform(heard: Heard) -> Weighed:
    """Weigh every site the same, whatever its size.

    Returns:
        Weights of 1 / S each.
    """
    return Weighed(normalised(np.ones(len(heard.reports))))


RULES: Mapping[str, Callable[..., Weighed]] = {
    "cohort": cohort,
    "uniform": uniform,
    "power": power,
    "tilt": tilt,
    "propfair": propfair,
    "dro": dro,
    "fairfed": fairfed,
    "mgda": mgda,
    "cgsv": cgsv,
    "fedfv": fedfv,
    "fednova": fednova,
}

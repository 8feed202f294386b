"""The rule that looks at how many optimiser steps each site has taken."""

import numpy as np

from server_app.weighting.guards import shares
from server_app.weighting.heard import Heard, Weighed, Weights


def fednova(heard: Heard, *, momentum: float) -> Weighed:
    """Weigh by share over steps, so that a site that takes more steps does not pull the objective to itself.

    The weights do not sum to 1 where steps differ: what a site of few steps has left out is made up for, by the
    average number of steps. A site that says fewer steps than it took buys weight: combine with a bound on norms
    where sites are not trusted.

    Args:
        heard: Steps.
        momentum: Of the sites' optimiser, in [0, 1); 0 for adam, whose every step has about the same length.

    Source:
        FedNova (Wang et al. 2020, arXiv:2007.07481, equation 6 and its accumulated gradients with momentum).
    """
    lengths = length(np.array([report.steps for report in heard.reports], dtype=np.float64), momentum=momentum)
    relative = lengths / lengths.max()  # all 1, and the weights the shares bit by bit, where all take the same steps
    patients = np.array([report.declared_patients for report in heard.reports], dtype=np.float64)
    average = (patients * relative).sum() / patients.sum()
    return Weighed(shares(heard.reports) * (average / relative))


def length(steps: Weights, *, momentum: float) -> Weights:
    """Return how far steps of a constant unit gradient lead: sum over i of (1 - m^i) / (1 - m), i from 1 to steps."""
    far: Weights = (steps - momentum * (1 - momentum**steps) / (1 - momentum)) / (1 - momentum)
    return far

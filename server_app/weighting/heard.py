"""What a weighting rule may look at, and what it answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
State = Mapping[str, Any]
"""What a rule keeps between rounds, as JSON can hold it; empty before its first round."""


@dataclass(frozen=True)
class Signal:
    """A figure that a site has reported, and the standard deviation of the noise in it (0: exact)."""

    value: float
    sd: float


@dataclass(frozen=True)
class SiteReport:
    """One site's share in a round, as a weighting rule sees it: public or noised, and never an update itself.

    Attributes:
        site: The site's id.
        declared_patients: Public, rounded cohort size.
        steps: Optimiser steps taken in this round; at least 1.
        loss: Mean clipped loss of the site's audit patients under the model that the site has received, in nats;
            None where it was not asked for, not told, or too noisy to tell.
        gap: Signed difference between two groups of the site's audit patients in how many of the positive ones are
            found (or, of more groups, largest minus smallest); None as for ``loss``.
    """

    site: str
    declared_patients: int
    steps: int = 1
    loss: Signal | None = None
    gap: Signal | None = None


@dataclass(frozen=True)
class Heard:
    """All that a weighting rule may look at.

    Attributes:
        reports: S sites whose updates will be combined, in order of their names.
        gram: float64[S, S] inner products of their updates, where the rule needs them; else None.
        gap: The same as ``SiteReport.gap`` over the audit patients of all sites; None where nobody knows.
        state: What the rule answered with the last time.
    """

    reports: Sequence[SiteReport]
    gram: NDArray[np.float64] | None = None
    gap: Signal | None = None
    state: State = field(default_factory=dict)


@dataclass(frozen=True)
class Weighed:
    """What a weighting rule answers.

    Attributes:
        weights: float64[S], in the order of the reports: the coefficients of the updates.
        state: What it wants to see again in the next round.
        fallen_back: Sites whose signal was missing, so that they count with their cohort, or as the rule says.
    """

    weights: Weights
    state: State = field(default_factory=dict)
    fallen_back: tuple[str, ...] = ()


Weighting = Callable[[Heard], Weighed]

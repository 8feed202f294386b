"""What a combiner may look at, and what it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedfm.arrays import Arrays
from server_app.updates import Updates

Update = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Received:
    """The updates of one round, and what they are updates of.

    Attributes:
        before: float32 global parameters that the sites started from.
        frozen: float32 parameters that they loaded beside, and did not train; empty where they stay as built.
        updates: S updates on disk: one at a time, by columns, or as a Gram matrix.
        weights: float64[S], in the order of ``updates.sites``.
    """

    before: Arrays
    frozen: Arrays
    updates: Updates
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class Combined:
    """What a combiner answers.

    Attributes:
        update: float64, to be added to the global parameters.
        coefficients: float64[S] where the update is that linear combination of the sites' updates; None where it
            is another function of them.
        frozen: What the sites load in the next round beside the parameters; empty where they keep what is built.
    """

    update: Update
    coefficients: NDArray[np.float64] | None
    frozen: Arrays = field(default_factory=dict)


Combiner = Callable[[Received], Combined]


def combination(received: Received, coefficients: NDArray[np.float64]) -> Combined:
    """Return the sum of coefficient times update; one update and one float64 sum are in memory at a time.

    Sites are added in order of their names, so that the sum does not depend on who answered first.

    Guarantees:
        Coefficients that are non-negative and sum to 1 keep each entry within the sites' smallest and largest;
        one site with coefficient 1 is returned as it is. An update whose coefficient is 0 is not read.
    """
    updates = received.updates
    total, product = np.zeros(updates.size), np.empty(min(updates.size, _STRETCH))
    for coefficient, site in zip(coefficients.tolist(), updates.sites, strict=True):
        if not coefficient:
            continue
        update = updates.row(site)
        for start in range(0, updates.size, _STRETCH):
            part = slice(start, start + _STRETCH)
            stretch = product[: len(update[part])]
            np.multiply(update[part], coefficient, out=stretch, dtype=np.float64)
            total[part] += stretch
    return Combined(updates.named(total), coefficients)


_STRETCH = 1 << 15
"""Entries that are multiplied and added at once: few enough to stay in a core's cache."""

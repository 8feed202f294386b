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

    Guarantees:
        Coefficients that are non-negative and sum to 1 keep each entry within the sites' smallest and largest;
        one site with coefficient 1 is returned as it is.
    """
    total = np.zeros(received.updates.size)
    for coefficient, update in zip(coefficients.tolist(), received.updates.rows(), strict=True):
        total += coefficient * update.astype(np.float64)
    return Combined(received.updates.named(total), coefficients)

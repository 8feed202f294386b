"""How the updates of the sites become one.

A combiner takes (weight, update) pairs one at a time and returns the global update.
To add one: write a function with the signature of ``linear``, add it to ``COMBINERS``,
and add ``conf/combining/<name>.yaml``. Keyword-only arguments are the rule's parameters.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from fedfm.arrays import Arrays

Update = dict[str, NDArray[np.float64]]
Combiner = Callable[[Iterable[tuple[float, Arrays]]], Update]


def linear(weighted: Iterable[tuple[float, Arrays]]) -> Update:
    """Return the sum of weight times update.

    One float64 sum is held, whatever the number of sites.

    Guarantees:
        Weights that are non-negative and sum to 1 keep each entry within the sites' smallest and largest;
        one site with weight 1 is returned as it is.
    """
    total: Update = {}
    for weight, update in weighted:
        for name, array in update.items():
            if name in total:
                total[name] += weight * array.astype(np.float64)
            else:
                total[name] = weight * array.astype(np.float64)
    return total


def applied(parameters: Arrays, update: Update) -> Arrays:
    """Return float32 parameters plus update; the inputs stay as they are."""
    return {name: (array.astype(np.float64) + update[name]).astype(np.float32) for name, array in parameters.items()}


COMBINERS: Mapping[str, Callable[..., Update]] = {"linear": linear}

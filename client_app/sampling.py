"""Which units take part in a step: each on its own, by a coin of the same chance (Poisson sampling).

This is the sampling that the accountant assumes. Shuffled batches of a fixed size are not
(Chua et al. 2024, arXiv:2403.17673), and spend more than the accountant would say.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Uniform = Callable[[int], NDArray[np.float64]]
"""Draws that many numbers, uniform on (0, 1]."""


def poisson_sample(units: int, rate: float, uniform: Uniform) -> NDArray[np.intp]:
    """Return the indices of the units in one step, in order; may be empty.

    Args:
        units: Number of units, patients or records.
        rate: Chance of each unit, in (0, 1]; 1 is the full batch and draws nothing.
        uniform: Source of randomness; ``secure_uniform`` wherever privacy is claimed.
    """
    if rate >= 1.0:
        return np.arange(units)
    return np.flatnonzero(uniform(units) <= rate)

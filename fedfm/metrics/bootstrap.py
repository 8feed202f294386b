"""The bootstrap over documents: documents are drawn with replacement, each with all its figures together (paired).

Intervals are percentiles of the draws (Efron and Tibshirani 1993, section 13.3). They hold the choice of documents, and
nothing of how a document's own figures were drawn.
"""

import numpy as np
from numpy.typing import NDArray

from fedfm.metrics.performance import Estimate

Figures = NDArray[np.float64]

DRAWS = 2000


def drawn(documents: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return int64[draws, N] places of N >= 1 documents: figures that are looked up by the same places are paired."""
    return rng.integers(documents, size=(DRAWS, documents))


def means(figures: Figures, rng: np.random.Generator) -> Figures:
    """Return float64[..., draws] means over documents of float64[..., N], all figures of a document together."""
    found: Figures = figures[..., drawn(figures.shape[-1], rng)].mean(axis=-1)
    return found


def percentiles(value: float, draws: Figures) -> Estimate:
    """Return a figure with the middle 95 % of its draws, float64[draws]; the interval always holds the figure."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, min(float(low), value), max(float(high), value))


def mean(figures: Figures, rng: np.random.Generator) -> Estimate:
    """Estimate the mean of float64[N], N >= 1."""
    return percentiles(float(figures.mean()), means(figures, rng))


def median(figures: Figures, rng: np.random.Generator) -> Estimate:
    """Estimate the median of float64[N], N >= 1."""
    return percentiles(float(np.median(figures)), np.median(figures[drawn(len(figures), rng)], axis=-1))


def chance(holds: NDArray[np.bool_]) -> float:
    """Return the chance of what holds in some of the draws, bool[draws]; never 0, as what was seen is a draw too.

    Source: Davison and Hinkley 1997, Bootstrap Methods and their Application, section 4.2 (Monte Carlo tests).
    """
    return float((1 + holds.sum()) / (1 + len(holds)))

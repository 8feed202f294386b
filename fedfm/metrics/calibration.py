"""Figures of scores in bins, of many tables at once, so that a bootstrap of the counts can use them.

Bins are equal in width, as the cells are, and a bin's middle stands for the score of all who are in it: the figures
are those of scores that are rounded to the middles, which is what scikit-learn gives for such scores.
Not-a-number stands where a figure is not defined.
"""

import numpy as np
from numpy.typing import NDArray

Tables = NDArray[np.float64]
"""float64[..., 2, K]: patients by label and score bin."""

_DRAWS = 500

_SEED = 20_240_229  # public: the same counts have the same interval wherever the report is rendered

_STEEPEST = 30.0  # of a calibration slope: steeper is separation, where no finite slope fits
_ITERATIONS = 30


def middles(bins: int) -> NDArray[np.float64]:
    """Return float64[K], the middle of each bin on [0, 1]."""
    found: NDArray[np.float64] = (np.arange(bins) + 0.5) / bins
    return found


def average_precision(tables: Tables, positive: int) -> Tables:
    """Return float64[...] in [0, 1]: sum over thresholds, from above, of the recall gained times the precision there.

    Precision of a threshold above which noise leaves no patient is 0.
    Source: Boyd, Eng and Page 2013, average precision; as scikit-learn has it.
    """
    found, called = tables[..., positive, ::-1], tables.sum(axis=-2)[..., ::-1]
    hits, calls = found.cumsum(axis=-1), called.cumsum(axis=-1)
    precision = np.clip(np.divide(hits, calls, out=np.zeros_like(hits), where=calls > 0), 0.0, 1.0)
    return np.clip(_over((found * precision).sum(axis=-1), found.sum(axis=-1)), 0.0, 1.0)


def calibration_error(tables: Tables, positive: int) -> Tables:
    """Return float64[...]: mean over patients of the distance of a bin's share of positives from its middle.

    ECE = sum_b |positives_b - middle_b patients_b| / patients
    Source: Naeini, Cooper and Hauskrecht 2015, section 3, with middles for mean scores.
    """
    return _over(patients_apart(tables, positive), tables.sum(axis=(-2, -1)))


def patients_apart(tables: Tables, positive: int) -> Tables:
    """Return float64[...], the sum in ``calibration_error``: a seminorm, so that noise moves it by at most its own."""
    expected = middles(tables.shape[-1]) * tables.sum(axis=-2)
    apart: Tables = np.abs(tables[..., positive, :] - expected).sum(axis=-1)
    return apart


def calibration_slope(tables: Tables, positive: int) -> Tables:
    """Return float64[...]: slope of a logistic regression of the outcome on the log odds of the score.

    The equations are linear in the cells, so that noise, also where it makes a cell negative, does not pull the slope
    to one side. Not-a-number where no finite slope fits: one class or bin only, or classes that a score separates.
    Source: Cox 1958, Two further applications of a model for binary regression; fitted by Newton's method.
    """
    found, both = tables[..., positive, :], tables.sum(axis=-2)
    score = np.log(middles(tables.shape[-1])) - np.log1p(-middles(tables.shape[-1]))
    base = np.zeros(tables.shape[:-2])
    slope = np.zeros(tables.shape[:-2])
    with np.errstate(all="ignore"):  # what does not converge becomes not-a-number
        for _ in range(_ITERATIONS):
            chance = 1 / (1 + np.exp(-(base[..., None] + slope[..., None] * score)))
            weight, rest = both * chance * (1 - chance), found - both * chance
            ones, ups, squares = weight.sum(-1), (weight * score).sum(-1), (weight * score**2).sum(-1)
            determinant = ones * squares - ups**2
            first, second = rest.sum(-1), (rest * score).sum(-1)
            step = (ones * second - ups * first) / determinant
            base = base + (squares * first - ups * second) / determinant
            slope = slope + step
        settled = (np.abs(step) < 1e-6) & (np.abs(slope) < _STEEPEST) & (determinant > 0) & (ones > 0)
    return np.where(settled, slope, np.nan)


def replicates(cells: Tables, sd: float) -> Tables:
    """Draw the counts that other patients with the same chances, and other noise, would have given.

    Args:
        cells: float64[C, K] patients, with noise.
        sd: Standard deviation of the noise in each cell.

    Returns:
        float64[B, C, K] around ``cells``: Poisson counts (a figure that does not change with the number of patients
        cannot tell them from multinomial ones) and Gaussian noise. The draws are the same for the same cells.
    """
    chance, mean = np.random.default_rng(_SEED), np.maximum(cells, 0.0)
    shape = (_DRAWS, *cells.shape)
    drawn: Tables = cells + chance.poisson(mean, shape) - mean + chance.normal(0.0, sd, shape)
    return drawn


def _over(part: Tables, whole: Tables) -> Tables:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)

"""Whether the reasons are worth as much for every group of patients."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from fedfm.metrics.performance import Estimate

_RESAMPLES = 1000


def largest_difference(
    figures: NDArray[np.float64], groups: Sequence[str | None], *, least: int, seed: int
) -> Estimate | None:
    """Return the largest difference between groups of the mean of a figure, such as the gain over random order.

    The 95 % interval holds for all pairs of groups at once: it reaches as far to each side as 95 % of bootstrap
    resamples, drawn within the groups, move the difference of any pair at most. Its lower end is therefore 0 where
    the groups differ by no more than chance, which percentiles of the largest difference itself would never be.

    Args:
        figures: float64[N] a figure of each document; those that are not finite are left out.
        groups: The group of each document in one attribute; None where it has none.
        least: Fewest documents of a group that is looked at.
        seed: Draws the resamples.

    Returns:
        None where fewer than two groups are large enough.

    Source: Westfall and Young 1993, Resampling-based multiple testing, section 2.2 (the largest of all pairs).
    """
    members = [
        figures[[found == name and bool(ok) for found, ok in zip(groups, np.isfinite(figures), strict=True)]]
        for name in sorted({group for group in groups if group is not None})
    ]
    members = [values for values in members if len(values) >= max(least, 1)]
    if len(members) < 2:
        return None
    rng = np.random.default_rng(seed)
    means = np.array([values.mean() for values in members])
    resampled = np.array(
        [values[rng.integers(len(values), size=(_RESAMPLES, len(values)))].mean(1) for values in members]
    )
    moved = resampled - means[:, None]
    farthest = np.max([np.abs(moved[i] - moved[j]) for i, j in combinations(range(len(members)), 2)], axis=0)
    reach, largest = float(np.quantile(farthest, 0.95)), float(np.ptp(means))
    return Estimate(largest, max(0.0, largest - reach), largest + reach)

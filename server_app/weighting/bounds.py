"""Weights between a least and a most for each site that keep their sum: scaled there, or the nearest such point."""

from bisect import bisect_right
from collections.abc import Callable

import numpy as np

from server_app.weighting.heard import Weights

_TRACE = 1e-12  # of a site's most: stands for a weight of 0, which no factor could raise


def scaled(weights: Weights, low: Weights, high: Weights) -> Weights:
    """Return min(max(s weights, low), high), with the one s that keeps the sum.

    That is the point between the bounds that is nearest in relative entropy, so that sites within their bounds keep
    their proportions.

    Args:
        weights: float64[S], non-negative; their sum lies between those of the bounds.
        low: float64[S], the least of each.
        high: float64[S], above low.

    Guarantees:
        Weights that are all within their bounds come back as they are, bit by bit.
    """
    if ((low <= weights) & (weights <= high)).all():
        return weights
    base = np.maximum(weights, _TRACE * high)
    knees = np.concatenate([low / base, high / base])
    return _on_rising(lambda factor: np.clip(factor * base, low, high), knees, float(weights.sum()))


def nearest(point: Weights, low: Weights, high: Weights, *, total: float) -> Weights:
    """Return the point between the bounds with this sum that is nearest to ``point`` (Euclidean projection).

    Args:
        point: float64[S].
        low: float64[S], the least of each; their sum is at most ``total``.
        high: float64[S], above low; their sum is at least ``total``.
        total: What the weights sum to.

    Guarantees:
        A point that has the sum and is within the bounds comes back as it is, bit by bit.

    Source:
        Duchi, Shalev-Shwartz, Singer and Chandra (2008), figure 1, for bounds on both sides.
    """
    shifted: Weights = point + (total - point.sum()) / len(point)
    if ((low <= shifted) & (shifted <= high)).all():
        return shifted
    knees = np.concatenate([low - point, high - point])
    return _on_rising(lambda shift: np.clip(point + shift, low, high), knees, total)


def _on_rising(curve: Callable[[float], Weights], knees: Weights, total: float) -> Weights:
    """Return the point with this sum on a curve that rises, straight between its knees."""
    ordered = np.sort(knees).tolist()
    after = bisect_right(ordered, total, key=lambda knee: float(curve(knee).sum()))
    left, right = ordered[max(after - 1, 0)], ordered[min(after, len(ordered) - 1)]
    below, above = float(curve(left).sum()), float(curve(right).sum())
    share = (total - below) / (above - below) if above > below else 0.0
    return curve(left + share * (right - left))

"""The shortest mixture of vectors that are known by their inner products only."""

import numpy as np
from numpy.typing import NDArray

from server_app.weighting.bounds import nearest
from server_app.weighting.heard import Weights

Gram = NDArray[np.float64]

_WARM_STEPS = 300
_TOLERANCE = 1e-13  # of the largest squared norm
_RIDGE = 1e-10  # of the largest squared norm; keeps a step finite where vectors depend on each other
_REFINED = 3  # whole steps between the same bounds, each of which takes away what the ridge has left


def least_norm(gram: Gram, start: Weights, *, reach: float) -> Weights:
    """Return the weights of least ||sum_k w_k v_k|| that are at most ``reach`` from ``start``.

    Args:
        gram: float64[S, S], the inner product of each two vectors.
        start: float64[S], non-negative.
        reach: Largest change of a weight, at least 0.

    Returns:
        float64[S], non-negative, with the sum of ``start``.

    Source:
        A primal active-set method (Nocedal and Wright 2006, algorithm 16.3), begun where a projected gradient with
        momentum (Beck and Teboulle 2009) has come to, so that few constraints are left to find.
    """
    total = float(start.sum())
    low, high = np.maximum(start - reach, 0.0), np.minimum(start + reach, total)
    scale = float(np.diag(gram).max())
    if reach == 0 or scale == 0:
        return start
    gram = gram / scale
    weights = _descended(gram, start, low, high)
    is_free, whole_steps = (weights > low) & (weights < high), 0
    for _ in range(5 * len(start) + 100):
        step = _step(gram, weights, is_free)
        if whole_steps < _REFINED and np.abs(step).max() > _TOLERANCE * total:
            weights, is_free, is_whole = _moved(weights, step, is_free, low, high)
            whole_steps = whole_steps + 1 if is_whole else 0
        else:
            released, whole_steps = _to_release(gram @ weights, weights, is_free, low), 0
            if released is None:
                break
            is_free[released] = True
    return weights


def _descended(gram: Gram, start: Weights, low: Weights, high: Weights) -> Weights:
    """Return where projected gradient steps with momentum lead to."""
    length = 1 / float(np.abs(gram).sum(axis=1).max())  # above 1 over the largest eigenvalue there is none longer
    total, weights, ahead, pace = float(start.sum()), start, start, 1.0
    for _ in range(_WARM_STEPS):
        after = nearest(ahead - length * (gram @ ahead), low, high, total=total)
        faster = (1 + np.sqrt(1 + 4 * pace**2)) / 2
        ahead = after + (pace - 1) / faster * (after - weights)
        weights, pace = after, faster
    return weights


def _step(gram: Gram, weights: Weights, is_free: NDArray[np.bool_]) -> Weights:
    """Return the step to the least norm over the free weights that leaves their sum as it is."""
    step = np.zeros_like(weights)
    if is_free.sum() < 2:
        return step
    inner = gram[np.ix_(is_free, is_free)] + _RIDGE * np.eye(int(is_free.sum()))
    slope = (gram @ weights)[is_free]
    down, even = np.linalg.solve(inner, np.stack([slope - slope.mean(), np.ones_like(slope)], axis=1)).T
    free = down.sum() / even.sum() * even - down
    step[is_free] = free - free.mean()  # rounding would let the sum drift where vectors depend on each other
    return step


def _moved(
    weights: Weights, step: Weights, is_free: NDArray[np.bool_], low: Weights, high: Weights
) -> tuple[Weights, NDArray[np.bool_], bool]:
    """Go as far along the step as no bound forbids; the weight that meets one first is no longer free.

    Returns:
        Weights, which of them are free, and whether it was the whole step.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(step > 0, (high - weights) / step, np.where(step < 0, (low - weights) / step, np.inf))
    first = int(room.argmin())
    if room[first] >= 1:
        return weights + step, is_free, True
    after, still_free = weights + room[first] * step, is_free.copy()
    after[first] = high[first] if step[first] > 0 else low[first]
    still_free[first] = False
    return after, still_free, False


def _to_release(slope: Weights, weights: Weights, is_free: NDArray[np.bool_], low: Weights) -> int | None:
    """Return the bound weight whose release shortens the vector most; None where none does.

    Where no weight is free, the two that would gain most by an exchange are found one after the other.
    """
    at_low = ~is_free & (weights <= low)
    at_high = ~is_free & ~at_low
    level = slope[is_free].mean() if is_free.any() else slope[at_high].max(initial=-np.inf)
    gain = np.where(at_low, level - slope, np.where(at_high, slope - level, -np.inf))
    best = int(gain.argmax())
    return best if gain[best] > _TOLERANCE else None

"""Combiners that a few wrong updates cannot move far, whether they are wrong by a fault or by intent.

What they resist they pay for: a hospital whose patients are unlike the others' looks like a fault to each of them.
Those but ``norm_clipping`` count every site once, so that a study must weigh its sites the same.
"""

import math

import numpy as np
from numpy.typing import NDArray

from fedfm.errors import EngineError
from server_app.combining.received import Combined, Received, combination


def trimmed_mean(received: Received, *, share: float) -> Combined:
    """Return, of each entry, the mean without the smallest and the largest ones (Yin et al. 2018).

    Args:
        received: S updates.
        share: Part of the sites that is cut at either end, in (0, 0.5); rounded down to whole sites, but for
            the last digits, so that 0.29 of 100 are 29.

    Guarantees:
        With at most floor(share * S) wrong updates each entry lies within the other sites' smallest and largest.

    Raises:
        EngineError: So few updates that none would be cut, or fewer than 3.

    Source: Yin, Chen, Ramchandran and Bartlett 2018, arXiv:1803.01498.
    """
    sites = len(received.updates.sites)
    _need(sites, max(math.ceil((1 - 1e-9) / share), 3), "trimmed_mean")
    cut = min(int(share * sites + 1e-9), (sites - 1) // 2)  # something must be left, however near to a half
    return _of_sorted(received, slice(cut, sites - cut))


def median(received: Received) -> Combined:
    """Return the median of each entry; of an even number of sites the mean of the two in the middle.

    Guarantees:
        With fewer than S / 2 wrong updates each entry lies within the other sites' smallest and largest.

    Source: Yin et al. 2018, arXiv:1803.01498.
    """
    sites = len(received.updates.sites)
    return _of_sorted(received, slice((sites - 1) // 2, sites // 2 + 1))


def krum(received: Received, *, faulty: int) -> Combined:
    """Return the one update that lies nearest to the others.

    The score of an update is the sum of its squared distances to the S - faulty - 2 nearest others; the smallest
    score wins, of equal ones the first by name.

    Args:
        received: S updates.
        faulty: Most updates that may be wrong, f >= 1.

    Guarantees:
        The result is what one site has sent; not one of ``faulty`` sites that are far from all others.

    Raises:
        EngineError: Fewer than 2 * faulty + 3 updates.

    Source: Blanchard, El Mhamdi, Guerraoui and Stainer 2017 (NeurIPS), arXiv:1703.02757.
    """
    return multi_krum(received, faulty=faulty, chosen=1)


def multi_krum(received: Received, *, faulty: int, chosen: int) -> Combined:
    """Return the mean of the ``chosen`` updates with the smallest scores of ``krum``.

    Args:
        received: S updates.
        faulty: Most updates that may be wrong, f >= 1.
        chosen: Updates that are averaged, from 1 to S - f: of more, one that is wrong would be among them for certain.

    Raises:
        EngineError: Fewer than 2 * faulty + 3 updates, or fewer than ``chosen`` + ``faulty``.

    Source: Blanchard et al. 2017, arXiv:1703.02757.
    """
    sites = len(received.updates.sites)
    _need(sites, max(2 * faulty + 3, chosen + faulty), "krum")
    order = np.argsort(_scores(received.updates.gram(), neighbours=sites - faulty - 2), kind="stable")
    coefficients = np.zeros(sites)
    coefficients[order[:chosen]] = 1 / chosen
    return combination(received, coefficients)


def norm_clipping(received: Received, *, factor: float) -> Combined:
    """Return the weighted sum of updates, each shortened to ``factor`` times the median of their norms.

    Weights are not made up for: where a long update is shortened, the step is shorter.

    Args:
        received: S updates.
        factor: Longest norm in medians; above 0.

    Guarantees:
        With fewer than S / 2 wrong updates, none counts for more than its weight times ``factor`` times the largest
        norm of the other sites.

    Source: Sun, Kairouz, Suresh and McMahan 2019, arXiv:1911.07963; there the bound is a fixed number.
    """
    norms = np.array([np.sqrt(np.square(row, dtype=np.float64).sum()) for row in received.updates.rows()])
    longest = factor * np.median(norms)
    kept = np.minimum(1.0, np.divide(longest, norms, out=np.ones_like(norms), where=norms > 0))
    return combination(received, received.weights * kept)


def _of_sorted(received: Received, middle: slice) -> Combined:
    """Return, of each entry, the mean of those that stand in ``middle`` when the sites' are sorted."""
    found = np.empty(received.updates.size)
    for part, block in received.updates.columns():
        by_entry = np.ascontiguousarray(block.T)  # sorting neighbours in memory is several times as fast
        by_entry.sort(axis=1)
        by_entry[:, middle].mean(axis=1, dtype=np.float64, out=found[part])
    return Combined(received.updates.named(found), None)


def _scores(gram: NDArray[np.float64], *, neighbours: int) -> NDArray[np.float64]:
    """Return float64[S], the sum of squared distances to the nearest ``neighbours``, from inner products."""
    squares = np.diag(gram)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * gram, 0.0)
    np.fill_diagonal(distances, np.inf)  # an update is no neighbour of itself
    nearest = np.sort(distances, axis=1)[:, :neighbours]
    scores: NDArray[np.float64] = nearest.sum(axis=1)
    return scores


def _need(sites: int, fewest: int, combiner: str) -> None:
    """Rather no step than one of another kind: else who silences hospitals could switch the protection off."""
    if sites < fewest:
        raise EngineError(
            "ROUND-E029",
            f"too few updates for {combiner}",
            found=str(sites),
            allowed=f"{fewest} or more",
            fix="raise min_sites, or expect fewer wrong updates",
        )

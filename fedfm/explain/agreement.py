"""How alike the reasons of two models are: credits of the same V terms, side by side.

None stands where the question has no answer, never a number that is not one. None of the figures depends on the order
of the vocabulary.
"""

import numpy as np
from numpy.typing import NDArray

from fedfm.explain.predictability import held_out_chances
from fedfm.explain.words import Credits, finite, shares
from fedfm.metrics.performance import Estimate

LEAST_COMMON = 3
"""Fewest terms that both credit for a rank correlation; of two it could only be 1 or -1."""

LEAST_DOCUMENTS = 10
"""Fewest documents from which a site can be learnt."""

_RESAMPLES = 1000


def rank_overlap(a: Credits, b: Credits, p: float = 0.9) -> float | None:
    """Return the rank-biased overlap of the terms, most credited of either sign first; in [0, 1], 1 if ranked alike.

    A term without credit is not listed. Beyond the end of the lists the agreement is taken to go on as it was.
    Tied terms share the first of their ranks.

    Args:
        a: float64[V] credits.
        b: float64[V] credits.
        p: How much each rank counts, relative to the one before; in (0, 1).

    Returns:
        None where either list is empty.

    Source: Webber, Moffat, Zobel 2010, A similarity measure for indefinite rankings, equation 32 (extrapolation)
    and section 4.4 (ties).
    """
    first, second = _ranks(a), _ranks(b)
    short, long = sorted((int(np.isfinite(first).sum()), int(np.isfinite(second).sum())))
    if not short:
        return None
    depth = np.arange(1, long + 1)
    listed = [np.searchsorted(np.sort(ranks), depth, side="right") for ranks in (first, second)]
    common = np.searchsorted(np.sort(np.maximum(first, second)), depth, side="right")
    at_end = 2 * common[short - 1] / (listed[0][short - 1] + listed[1][short - 1])
    # The shorter list would have gone on, and would have agreed as it did to its end.
    beyond = np.maximum(depth - short, 0)
    agreement = 2 * (common + at_end * beyond) / (np.maximum(listed[0], depth) + np.maximum(listed[1], depth))
    weights = (1 - p) / p * p**depth
    return float(np.clip((weights * agreement).sum() + agreement[-1] * p**long, 0.0, 1.0))


def rank_correlation(a: Credits, b: Credits) -> float | None:
    """Return Spearman's rank correlation of the signed credits, in [-1, 1], over the terms that both credit.

    Returns:
        None where these are fewer than ``LEAST_COMMON``, or where either credits all of them equally.
    """
    a, b = finite(a), finite(b)
    both = (a != 0) & (b != 0)
    return spearman(a[both], b[both])


def spearman(a: Credits, b: Credits) -> float | None:
    """Return Spearman's rank correlation, zeros and all; None of fewer than ``LEAST_COMMON``, or if one is constant."""
    if len(a) < LEAST_COMMON or (a == a[0]).all() or (b == b[0]).all():
        return None
    first, second = (_mean_ranks(values) - (len(values) + 1) / 2 for values in (a, b))
    return float(np.clip(first @ second / np.sqrt((first @ first) * (second @ second)), -1.0, 1.0))


def top_overlap(a: Credits, b: Credits, k: int) -> float | None:
    """Return how many of the k most credited terms are the same: common over all (Jaccard), in [0, 1].

    Of terms tied for the last place all are taken, and none without credit. None where either has no credit.
    """
    first, second = _ranks(a) <= k, _ranks(b) <= k
    if not first.any() or not second.any():
        return None
    return float((first & second).sum() / (first | second).sum())


def drift(a: Credits, b: Credits) -> float | None:
    """Return one minus the rank correlation, in [0, 2]: 0 where the reasons kept their order; None as there."""
    correlation = rank_correlation(a, b)
    return None if correlation is None else 1.0 - correlation


def divergence(a: Credits, b: Credits) -> float | None:
    """Return the Jensen-Shannon divergence of the shares of credit in bits, in [0, 1]; None if either has none.

    Source: Lin 1991, Divergence measures based on the Shannon entropy, equation 3.1.
    """
    first, second = shares(a), shares(b)
    if not first.any() or not second.any():
        return None
    middle = (first + second) / 2
    return float(np.clip((_relative(first, middle) + _relative(second, middle)) / 2, 0.0, 1.0))


def site_predictability(profiles: NDArray[np.float64], *, rng: np.random.Generator) -> Estimate | None:
    """Return how well the reasons of a model tell whose model it is: 0.5 by chance, 1 always.

    It is the AUROC of a site against all others, the mean over the sites, of a logistic regression that has not seen
    the document. Its interval is a percentile bootstrap over documents of what was predicted; what another choice
    of documents would have taught the regression is not in it.

    Args:
        profiles: float64[S, N, F] what each of S sites' models says of the same N documents, for example the credit
            of F terms. Documents with a number that is not finite are left out.
        rng: Draws folds and resamples.

    Returns:
        None for fewer than two sites, fewer than ``LEAST_DOCUMENTS`` documents, or nothing to tell by.
    """
    profiles = profiles[:, np.isfinite(profiles).all(axis=(0, 2))]
    sites, documents, features = profiles.shape
    if sites < 2 or documents < LEAST_DOCUMENTS or not features:
        return None
    chances = held_out_chances(profiles / (np.abs(profiles).max() or 1.0), rng=rng)
    wins = _wins(chances)
    times = rng.multinomial(documents, np.full(documents, 1 / documents), size=_RESAMPLES)
    areas = np.einsum("rn,nm,rm->r", times, wins, times, optimize=True) / documents**2
    low, high = np.quantile(areas, [0.025, 0.975])
    return Estimate(float(wins.mean()), float(low), float(high))


def _wins(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float64[N, N]: how often the own site's profile of n has more chance than another's of m; ties half.

    Its mean is the mean AUROC over the sites, and its mean weighted by a resample's counts that of the resample.
    """
    sites, documents, _ = chances.shape
    wins = np.zeros((documents, documents))
    for site in range(sites):
        score = chances[:, :, site]
        for other in (index for index in range(sites) if index != site):
            wins += np.heaviside(score[site][:, None] - score[other][None, :], 0.5)
    wins /= sites * (sites - 1)
    return wins


def _relative(part: Credits, whole: Credits) -> float:
    """Return the Kullback-Leibler divergence in bits."""
    some = (part > 0) & (whole > 0)  # half of the smallest number is 0
    return float((part[some] * np.log2(part[some] / whole[some])).sum())


def _ranks(credits_: Credits) -> NDArray[np.float64]:
    """Return float64[V]: 1 for the most credited of either sign, ties sharing the first; infinite without credit."""
    size = np.abs(finite(credits_))
    ranks = 1.0 + len(size) - np.searchsorted(np.sort(size), size, side="right")
    return np.where(size > 0, ranks, np.inf)


def _mean_ranks(values: Credits) -> NDArray[np.float64]:
    """Return float64[V]: 1 for the least, ties sharing the mean of their ranks."""
    ordered = np.sort(values)
    below, through = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    ranks: NDArray[np.float64] = (below + through + 1) / 2
    return ranks

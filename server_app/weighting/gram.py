"""Rules that look at the inner products of the sites' updates; they never see an update itself.

The direction of each is that of its source; its length is that of an average, weights summing to 1, where the source
has a step length of its own (``optimizing`` is the place for that). A site whose update is 0 has no direction and
counts with its cohort.
"""

import math

import numpy as np
from numpy.typing import NDArray

from server_app.weighting.guards import guarded, is_remembered, kept, remembered, shares
from server_app.weighting.heard import Heard, Weighed, Weights
from server_app.weighting.least_norm import Gram, least_norm
from server_app.weighting.loss import losses

_LEAST_REPUTATION = 1e-3


def mgda(heard: Heard, *, eps: float) -> Weighed:
    """Follow the shortest mixture of the updates' directions: as far as it can, it helps every site.

    Args:
        heard: Gram matrix.
        eps: Largest change of a site's share in the mixture; 0 mixes directions by cohort, 1 leaves it free.

    Source:
        FedMGDA+ (Hu, Shaloudegi, Zhang and Yu 2022, arXiv:2006.11489, equation 11).
    """
    gram, norms = _gram(heard)

    def mixed(share: Weights, known: NDArray[np.bool_]) -> Weights:
        mixture = least_norm(cosines(gram[np.ix_(known, known)]), share, reach=eps)
        return mixture / norms[known]

    return guarded(heard, norms > 0, mixed)


def cgsv(heard: Heard, *, alpha: float) -> Weighed:
    """Weigh the updates' directions by reputation: how much each site's has agreed with the combined one.

    Under strong noise every agreement is near 0, and the guards keep the weights near the cohorts'. It favours the
    majority.

    Args:
        heard: Gram matrix, and the reputations of the last round; in the first the shares.
        alpha: How much of the old reputation stays, in [0, 1).

    Source:
        CGSV (Xu et al. 2021, "Gradient driven rewards to guarantee fairness in collaborative machine learning",
        equations 1 and 2), without its rewards.
    """
    gram, norms = _gram(heard)
    known, before = norms > 0, remembered(heard)
    weighed = guarded(heard, known, lambda start, moving: start / norms[moving], start=before)
    if not known.any():
        return Weighed(weighed.weights, heard.state, weighed.fallen_back)
    past = np.where(is_remembered(heard), before, 0.0)[known]
    after = np.zeros_like(before)
    after[known] = reputations(cosines(gram[np.ix_(known, known)]), before[known], past, alpha=alpha)
    after *= shares(heard.reports)[known].sum()
    return Weighed(weighed.weights, kept(heard, after, known), weighed.fallen_back)


def reputations(cosine: Gram, weights: Weights, past: Weights, *, alpha: float) -> Weights:
    """Return the reputations after a round; they sum to 1.

    Args:
        cosine: float64[S, S] of the updates.
        weights: float64[S] that their directions are combined with.
        past: float64[S], reputations so far, in the scale of ``weights``; 0 for a new site.
        alpha: How much of them stays.
    """
    combined = cosine @ weights
    length = math.sqrt(max(float(weights @ combined), 0.0))
    agreement = combined / length if length > 0 else np.zeros_like(combined)
    scaled = past / past.sum() if past.sum() > 0 else past
    raw = np.maximum(alpha * scaled + (1 - alpha) * agreement, _LEAST_REPUTATION)
    after: Weights = raw / raw.sum()
    return after


def fedfv(heard: Heard, *, alpha: float) -> Weighed:
    """Take from each update what conflicts with another's, before the mean is taken, in which sites count the same.

    The weights are all positive and do not sum to 1: they give the mean of the projected updates, at the length of the
    plain mean; where nothing is left of the updates, they are not scaled. A site that did not tell its loss is taken to
    have the mean loss of the others; where none did, all count with their cohort.

    Args:
        heard: Losses and Gram matrix.
        alpha: Share of the sites, those of the largest losses, whose updates stay whole; in [0, 1].

    Source:
        FedFV (Wang et al. 2021, arXiv:2104.14937, algorithm 2), without the conflicts with earlier rounds.
    """
    gram, _ = _gram(heard)
    found, share = losses(heard), shares(heard.reports)
    told = np.isfinite(found)
    missing = tuple(report.site for report, known in zip(heard.reports, told, strict=True) if not known)
    if not told.any():
        return Weighed(share, fallen_back=missing)
    found[~told] = np.average(found[told], weights=share[told])
    return Weighed(projected_mean(gram, np.argsort(found, kind="stable"), alpha=alpha), fallen_back=missing)


def projected_mean(gram: Gram, order: NDArray[np.intp], *, alpha: float) -> Weights:
    """Return the coefficients of FedFV.

    Args:
        gram: float64[S, S].
        order: Sites by rising loss.
        alpha: Share of them, from the end, that stay whole.
    """
    sites = len(gram)
    is_whole = np.zeros(sites, dtype=bool)
    if alpha > 0:
        is_whole[order[math.ceil((sites - 1) * (1 - alpha)) :]] = True
    parts, products = np.eye(sites), gram.copy()  # row i: what update i has become, and its product with each update
    for other in order:
        conflict = np.where(is_whole, 0.0, np.minimum(products[:, other], 0.0))
        conflict[other] = 0.0
        if conflict.any():
            taken = conflict / gram[other, other]
            parts[:, other] -= taken
            products -= np.outer(taken, gram[other])
    mean: Weights = parts.mean(axis=0)
    plain = np.full(sites, 1 / sites)
    length = max(float(mean @ gram @ mean), 0.0)
    if length <= 1e-24 * np.diag(gram).max():  # nothing is left: there is no direction to scale
        return mean
    coefficients: Weights = mean * math.sqrt(max(float(plain @ gram @ plain), 0.0) / length)
    return coefficients


def cosines(gram: Gram) -> Gram:
    """Return float64[S, S], the cosine between each two updates, none of which is 0."""
    norms = np.sqrt(np.diag(gram))
    found: Gram = gram / np.outer(norms, norms)
    return found


def _gram(heard: Heard) -> tuple[Gram, Weights]:
    """Return the Gram matrix and float64[S] the updates' norms."""
    if heard.gram is None:
        raise ValueError("this rule needs the Gram matrix; say so in fedfm.signals.WEIGHTING_NEEDS")
    return heard.gram, np.sqrt(np.diag(heard.gram))

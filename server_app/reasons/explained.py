"""Sums over audit documents become what is known of the reasons of the sites' models, and of the global one."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from statistics import median_low

import numpy as np
from numpy.typing import NDArray

from fedfm.config.study import Study
from fedfm.explain.agreement import LEAST_COMMON, rank_correlation, rank_overlap, top_overlap
from fedfm.explain.sum_gates import counted
from fedfm.explanations import ranges
from fedfm.metrics.performance import LEAST_PATIENTS, Estimate, mean_of
from fedfm.wire import EvaluateReply, TrainReply
from server_app.report.explanations import (
    Agreement,
    Credit,
    Explained,
    SiteChecked,
    SiteExplained,
    SitesAgree,
    TermsCredited,
)

WIDEST = 0.2
"""Widest interval of a credit that still says something though it holds 0; all of a document's credit is 1."""

TOP = 10
"""Terms that are compared as the most credited."""

_Z = 1.96  # 95 % of a normal distribution


def pooled(sds: Sequence[float]) -> list[int]:
    """Return the places of the sites whose sums are added up; those whose stated noise would make them worse are not.

    Sites are taken in by their noise, the least first, as long as the noise of all of them over their number, the
    root of the sum of sd^2 over k, does not grow. Documents are taken to be alike: their own numbers bear the noise,
    and a choice by them would favour sites to which it has given some; nor is a small hospital left out for being
    small. Noise below the usual, the lower median, counts as the usual, so that no site of three or more can push
    the others out by stating little.

    Args:
        sds: K standard deviations, finite and 0 or more.

    Guarantees:
        All are taken in whose noise is at most the square root of 2 times the least that counts; the noise over the
        number is never larger than that of any single site that states the usual or more.
    """
    usual, taken = median_low(sds) if sds else 0.0, list[int]()
    for place in sorted(range(len(sds)), key=lambda place: sds[place]):
        with_it = [*taken, place]
        before, after = (math.hypot(*(max(sds[i], usual) for i in of)) / max(len(of), 1) for of in (taken, with_it))
        if taken and after > before:
            break
        taken = with_it
    return sorted(taken)


def explained(told: Iterable[tuple[Mapping[str, float], float]]) -> tuple[float, dict[str, Estimate]]:
    """Return the documents and the mean of each figure over them, of one site or of all together (``pooled``).

    Args:
        told: Of each site its sums, ``documents`` among them, and the standard deviation of the noise in each; a site
            that tells nothing has no sums.

    Returns:
        No documents and no means where there are none, or where their number drowns in the noise.
    """
    telling = [(sums, sd) for sums, sd in told if sums]
    answers = [telling[place] for place in pooled([sd for _, sd in telling])]
    documents, noise = sum(sums["documents"] for sums, _ in answers), math.hypot(*(sd for _, sd in answers))
    names = sorted(set().union(*(sums for sums, _ in answers)) - {"documents"})
    found = {}
    for name, (low, high) in ranges(names).items():
        mean = mean_of(sum(sums[name] for sums, _ in answers), documents, sd=noise, low=low, high=high)
        if mean is not None:
            found[name] = mean
    return (documents if found else 0.0), found


def checked(reply: TrainReply, study: Study) -> Iterator[SiteChecked]:
    """Return what a site says of its own model, and what the gates say of that; nothing where it says nothing."""
    if reply.check:
        documents, means = explained([(reply.check, reply.check_sd)])
        failed = counted(study, reply.round, reply.check, sd=reply.check_sd)
        yield SiteChecked(reply.site, reply.round, documents, means, failed, reply.downweighted)


def told(number: int, replies: Sequence[EvaluateReply], vocabulary: Sequence[str]) -> Iterator[Explained]:
    """Return what an evaluation says of each site's documents, and of terms, as events in the order of the report.

    Args:
        number: The round.
        replies: Screened; their terms are credits of the vocabulary, in its order, or of nothing.
        vocabulary: V terms.
    """
    for reply in replies:
        documents, means = explained([(reply.explanation, reply.explanation_sd)])
        if means:
            yield SiteExplained(reply.site, number, documents, means)
    credited = {reply.site: credits_of([reply], vocabulary) for reply in replies}
    known = {site: terms for site, terms in credited.items() if terms}
    together = credits_of(replies, vocabulary)
    if together:
        yield TermsCredited(number, "", "audit", together)
    for site, terms in known.items():
        yield TermsCredited(number, site, "audit", terms)
    if len(known) > 1:
        pairs = tuple(_agreement(known, one, other) for one, other in combinations(sorted(known), 2))
        yield SitesAgree(number, "audit", pairs)


def credits_of(replies: Sequence[EvaluateReply], vocabulary: Sequence[str]) -> dict[str, Credit]:
    """Return the mean credit of each term over the documents of the sites that tell it; its interval holds the noise.

    How credits vary over documents is not told, so that no interval holds it. With the sum g of credits and n
    documents, the noise of the mean m = g / n has the variance (sd_g^2 + m^2 sd_n^2) / n^2 (delta method).

    Args:
        replies: Screened; of one site or of all, of which those are left out that state too much noise in any of the
            three (``pooled``).
        vocabulary: V terms.

    Returns:
        Without terms that fewer than ``LEAST_PATIENTS`` documents may hold, and without those whose interval holds 0
        and is wider than ``WIDEST``.
    """
    telling = [reply for reply in replies if reply.terms.shape[1] and reply.explanation]
    for noise_of in ("explanation_sd", "terms_sd", "term_documents_sd"):
        telling = [telling[place] for place in pooled([getattr(reply, noise_of) for reply in telling])]
    documents = sum(reply.explanation["documents"] for reply in telling)
    noise = math.hypot(*(reply.explanation_sd for reply in telling))
    if documents <= max(2 * noise, 0.0):
        return {}
    credited, held = np.sum([reply.terms for reply in telling], axis=0)
    of_credit, of_held = (
        math.hypot(*(getattr(reply, name) for reply in telling)) for name in ("terms_sd", "term_documents_sd")
    )
    found = {}
    for term, total, count in zip(vocabulary, credited.tolist(), held.tolist(), strict=True):
        mean = min(1.0, max(-1.0, total / documents))
        half = _Z * math.hypot(of_credit, mean * noise) / documents
        is_known = mean - half > 0 or mean + half < 0 or 2 * half <= WIDEST
        if is_known and count - _Z * of_held >= LEAST_PATIENTS:
            found[term] = Credit(Estimate(mean, max(-1.0, mean - half), min(1.0, mean + half)), count)
    return found


def agreement(one: str, other: str, first: NDArray[np.float64], second: NDArray[np.float64]) -> Agreement:
    """Compare float64[V] credits of two sites."""
    return Agreement(
        one, other, rank_overlap(first, second), rank_correlation(first, second), top_overlap(first, second, TOP)
    )


def _agreement(known: Mapping[str, Mapping[str, Credit]], one: str, other: str) -> Agreement:
    """Compare the terms that both sites tell: one that a site leaves out is unknown there, and not without credit."""
    common = sorted(known[one].keys() & known[other].keys())
    if len(common) < LEAST_COMMON:
        return Agreement(one, other, None, None, None)
    first, second = (np.array([known[site][term].credit.value for term in common]) for site in (one, other))
    return agreement(one, other, first, second)

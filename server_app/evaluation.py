"""Counts and sums of the sites become what is known about the global model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedfm.config.study import Task
from fedfm.metrics.performance import Estimate, Performance, performance
from fedfm.wire import EvaluateReply

_Z = 1.96  # 95 % of a normal distribution


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the global model.

    Attributes:
        sites: Site to its performance.
        together: Performance on the patients of all sites.
        documents: Audit documents that were explained; 0 when none were.
        means: Name of a sum to its mean over documents; empty when none were explained.
    """

    sites: Mapping[str, Performance]
    together: Performance
    documents: float
    means: Mapping[str, Estimate]


def positive_class(task: Task) -> int:
    """Return the index of the class whose probability is the score of a two-class task."""
    return task.labels.index(task.positive) if task.positive else len(task.labels) - 1


def evaluate(replies: Sequence[EvaluateReply], *, positive: int) -> Evaluation:
    """Judge each site's counts, and their sum.

    Args:
        replies: One or more, screened; cells of one shape.
        positive: Index of the positive class.
    """
    sites = {
        reply.site: performance(reply.cells, cells_sd=reply.cells_sd, positive=positive)
        for reply in sorted(replies, key=lambda reply: reply.site)
    }
    cells = np.sum([reply.cells for reply in replies], axis=0)
    cells_sd = math.hypot(*(reply.cells_sd for reply in replies))
    together = performance(cells, cells_sd=cells_sd, positive=positive)
    documents, means = _explained([reply for reply in replies if "documents" in reply.explanation])
    return Evaluation(sites, together, documents, means)


def _explained(replies: Sequence[EvaluateReply]) -> tuple[float, dict[str, Estimate]]:
    """Return the documents and the mean of each sum over them.

    A mean m of n documents with values in [-1, 1] has at most the variance (1 - m^2) / n; noise of standard
    deviation s in sum and count adds s^2 (1 + m^2) / n^2 (delta method). The interval holds both.
    """
    documents = sum(reply.explanation["documents"] for reply in replies)
    noise = math.hypot(*(reply.explanation_sd for reply in replies))
    if documents <= max(2 * noise, 0):  # no documents, or no telling whether there are any
        return 0.0, {}
    names = sorted({name for reply in replies for name in reply.explanation} - {"documents"})
    means = {}
    for name in names:
        if all(name in reply.explanation for reply in replies):
            value = sum(reply.explanation[name] for reply in replies) / documents
            inside = min(1.0, max(-1.0, value))
            variance = (1 - inside**2) / documents + (noise / documents) ** 2 * (1 + inside**2)
            half = _Z * math.sqrt(variance)
            means[name] = Estimate(inside, max(-1.0, inside - half), min(1.0, inside + half))
    return documents, means

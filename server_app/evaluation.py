"""Counts and sums of the sites become what is known about the global model."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedfm.config.study import Task
from fedfm.metrics.between_sites import Spread
from fedfm.metrics.counts import LOSS_CAP
from fedfm.metrics.gaps import Gap, LocalGap
from fedfm.metrics.groups import GroupFigures, group_figures
from fedfm.metrics.performance import Estimate, Performance, mean_of, performance
from fedfm.wire import EvaluateReply


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the global model.

    Attributes:
        sites: Site to its performance; None where it withholds its counts.
        together: Performance on the patients of all sites that do not; None where all withhold.
        documents: Audit documents that were explained; 0 when none were.
        means: Name of a sum to its mean over documents; empty when none were explained.
        groups: ``attribute=group`` to its figures over all sites; None where its patients are too few for the noise.
        losses: Site to the mean clipped loss of its audit patients, in nats; None where they are too few.
        loss: The same over the audit patients of all sites.
        gaps: Attribute or intersection to name of a gap to the gap, over all sites' patients.
        site_gaps: Site to the same over its own patients.
        local_gaps: Attribute to name of a gap to the worst and the mean of the sites' own.
        spreads: ``accuracy``, ``auroc``, ``loss`` to how it spreads over sites; absent where fewer than two tell it.
        gains: Site to ``accuracy``, ``auroc`` to the gain over training alone; empty where nobody trained alone.
    """

    sites: Mapping[str, Performance | None]
    together: Performance | None
    documents: float
    means: Mapping[str, Estimate]
    groups: Mapping[str, GroupFigures | None]
    losses: Mapping[str, Estimate | None]
    loss: Estimate | None
    gaps: Mapping[str, Mapping[str, Gap | None]] = field(default_factory=dict)
    site_gaps: Mapping[str, Mapping[str, Mapping[str, Gap | None]]] = field(default_factory=dict)
    local_gaps: Mapping[str, Mapping[str, LocalGap | None]] = field(default_factory=dict)
    spreads: Mapping[str, Spread] = field(default_factory=dict)
    gains: Mapping[str, Mapping[str, Estimate | None]] = field(default_factory=dict)


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
    lost = [reply for reply in sorted(replies, key=lambda reply: reply.site) if reply.losses]
    return Evaluation(
        sites=sites,
        together=together,
        documents=documents,
        means=means,
        groups=_by_group(replies, positive),
        losses={reply.site: _mean_loss([reply]) for reply in lost},
        loss=_mean_loss(lost),
    )


def _by_group(replies: Sequence[EvaluateReply], positive: int) -> dict[str, GroupFigures | None]:
    """Add up each group's table over the sites that name it; each brings its own noise."""
    found = {}
    for key in sorted({key for reply in replies for key in reply.groups}):
        named = [reply for reply in replies if key in reply.groups]
        table = np.sum([reply.groups[key] for reply in named], axis=0)
        noise = math.hypot(*(reply.groups_sd for reply in named))
        found[key] = group_figures(table, sd=noise, positive=positive)
    return found


def _mean_loss(replies: Iterable[EvaluateReply]) -> Estimate | None:
    """Return the mean loss of the audit patients of some sites, in nats; clipped losses are shares of the cap."""
    told = list(replies)
    total, patients = (sum(reply.losses[name] for reply in told) for name in ("loss", "patients"))
    share = mean_of(total, patients, sd=math.hypot(*(reply.losses_sd for reply in told)), low=0.0, high=1.0)
    return None if share is None else Estimate(*(LOSS_CAP * end for end in (share.value, share.low, share.high)))


def _explained(replies: Sequence[EvaluateReply]) -> tuple[float, dict[str, Estimate]]:
    """Return the documents and the mean of each sum over them; no documents where their number drowns in the noise."""
    documents = sum(reply.explanation["documents"] for reply in replies)
    noise = math.hypot(*(reply.explanation_sd for reply in replies))
    means = {}
    for name in sorted({name for reply in replies for name in reply.explanation} - {"documents"}):
        if all(name in reply.explanation for reply in replies):
            total = sum(reply.explanation[name] for reply in replies)
            mean = mean_of(total, documents, sd=noise, low=-1.0, high=1.0)
            if mean is not None:
                means[name] = mean
    return (documents if means else 0.0), means

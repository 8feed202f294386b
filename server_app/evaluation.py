"""Counts and sums of the sites become what is known about the global model."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fedfm.config.study import Task
from fedfm.metrics.between_sites import Spread, spread
from fedfm.metrics.counts import LOSS_CAP, halves
from fedfm.metrics.gains import GAINS, Counted, gains
from fedfm.metrics.gaps import Gap, LocalGap
from fedfm.metrics.groups import GroupFigures
from fedfm.metrics.performance import OF_SCORES, Estimate, Performance, mean_of, performance
from fedfm.wire import EvaluateReply
from server_app.evaluation_groups import by_group, gaps_by_site, gaps_over_all, gaps_within_sites
from server_app.reasons.explained import explained


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
        replies: One or more, screened. Cells of a site that withholds them have no columns, those of one that tells
            less have two; the others' have one width.
        positive: Index of the positive class.
    """
    told = sorted(replies, key=lambda reply: reply.site)
    sites = {reply.site: _pooled([reply], positive) for reply in told}
    documents, means = explained((reply.explanation, reply.explanation_sd) for reply in told)
    lost = [reply for reply in told if reply.losses]
    losses = {reply.site: _mean_loss([reply]) for reply in lost}
    return Evaluation(
        sites=sites,
        together=_pooled(told, positive),
        documents=documents,
        means=means,
        groups=by_group(told, positive),
        losses=losses,
        loss=_mean_loss(lost),
        gaps=gaps_over_all(told, positive),
        site_gaps=gaps_by_site(told, positive),
        local_gaps=gaps_within_sites(told, positive),
        spreads=_spreads(sites, losses),
        gains=_gains(told, positive),
    )


def _pooled(replies: Sequence[EvaluateReply], positive: int) -> Performance | None:
    """Judge the sum of what was told, at the width that all have; figures of scores are of those that tell bins."""
    told = [reply for reply in replies if reply.cells.shape[1]]
    if not told:
        return None
    widths = {reply.cells.shape[1] for reply in told}
    whole = _added(told, positive, columns=min(widths))
    if len(widths) == 1:
        return whole
    fine = _added([reply for reply in told if reply.cells.shape[1] == max(widths)], positive, columns=max(widths))
    return replace(whole, **{name: getattr(fine, name) for name in OF_SCORES})


def _added(replies: Sequence[EvaluateReply], positive: int, *, columns: int) -> Performance:
    cells = [reply.cells if reply.cells.shape[1] == columns else halves(reply.cells) for reply in replies]
    # of k cells that become one, the noise adds up to sqrt(k) times as much
    noise = math.hypot(*(reply.cells_sd * math.sqrt(reply.cells.shape[1] / columns) for reply in replies))
    return performance(np.sum(cells, axis=0), cells_sd=noise, positive=positive)


def _spreads(sites: Mapping[str, Performance | None], losses: Mapping[str, Estimate | None]) -> dict[str, Spread]:
    """Compare the sites by each figure that two or more of them tell."""
    known = {site: figures for site, figures in sites.items() if figures is not None}
    by_figure: dict[str, tuple[Mapping[str, Estimate | None], float]] = {
        "accuracy": ({site: figures.accuracy for site, figures in known.items()}, 1.0),
        "auroc": ({site: figures.auroc for site, figures in known.items()}, 1.0),
        "loss": (losses, LOSS_CAP),
    }
    found = {}
    for name, (figures, most) in by_figure.items():
        told = {site: figure for site, figure in figures.items() if figure is not None}
        compared = spread(told, is_loss=name == "loss", most=most)
        if compared is not None:
            found[name] = compared
    return found


def _gains(replies: Sequence[EvaluateReply], positive: int) -> dict[str, dict[str, Estimate | None]]:
    """Compare with training alone; a site that withholds one of the two counts has None, and is counted as such."""
    if not any(reply.alone.shape[1] for reply in replies):
        return {}
    found: dict[str, dict[str, Estimate | None]] = {}
    for reply in replies:
        ours, own = Counted(reply.cells, reply.cells_sd), Counted(reply.alone, reply.alone_sd)
        is_told = ours.cells.shape[1] and own.cells.shape[1]
        found[reply.site] = gains(ours, own, positive=positive) if is_told else dict.fromkeys(GAINS)
    return found


def _mean_loss(replies: Iterable[EvaluateReply]) -> Estimate | None:
    """Return the mean loss of the audit patients of some sites, in nats; clipped losses are shares of the cap."""
    told = list(replies)
    total, patients = (sum(reply.losses[name] for reply in told) for name in ("loss", "patients"))
    share = mean_of(total, patients, sd=math.hypot(*(reply.losses_sd for reply in told)), low=0.0, high=1.0)
    return None if share is None else Estimate(*(LOSS_CAP * end for end in (share.value, share.low, share.high)))

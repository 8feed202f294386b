"""What the sites' evaluations tell the next round's rules: the loss and the gap of audit patients."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedfm.metrics.counts import LOSS_CAP
from fedfm.metrics.performance import mean_of, share_of
from fedfm.wire import EvaluateReply
from server_app.weighting.heard import Signal

_NEW = 0.5  # share of the latest of two noisy figures in what is remembered

Tables = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class KeptSignals:
    """``Signals`` between two rounds; the fields are its attributes."""

    losses: dict[str, Signal]
    gaps: dict[str, Signal]
    gap: Signal | None
    gap_now: Signal | None
    groups: tuple[str, ...]


class Signals:
    """The latest signals of each site; what was not told, or drowns in its noise, is absent.

    Figures with noise are averaged over evaluations, the latest counting half, so that the noise of one does not move
    the weights; exact ones are taken as they are. A site that does not answer is remembered as it was.

    Args:
        positive: Index of the positive class of a two-class task.

    Attributes:
        losses: Site to the mean clipped loss of its audit patients, in nats.
        gaps: Site to the gap between groups of its audit patients.
        gap: The gap over the audit patients of all sites; None where nobody knows.
        gap_now: The same of the latest evaluation alone, that is of one model; None where it did not count groups.
    """

    def __init__(self, positive: int) -> None:
        self.losses: Mapping[str, Signal] = {}
        self.gaps: Mapping[str, Signal] = {}
        self.gap: Signal | None = None
        self.gap_now: Signal | None = None
        self._positive = positive
        self._groups: frozenset[str] = frozenset()

    def hear(self, replies: Iterable[EvaluateReply]) -> None:
        """Take the signals of one evaluation."""
        answers = list(replies)
        self.losses = _remembered(self.losses, {reply.site: _loss(reply) for reply in answers})
        self.gap_now = None
        counted = [reply for reply in answers if reply.audit_groups]
        if counted:
            self._hear_gaps(counted)

    def kept(self) -> KeptSignals:
        """Return all that is remembered."""
        return KeptSignals(
            dict(self.losses), dict(self.gaps), self.gap, self.gap_now, groups=tuple(sorted(self._groups))
        )

    def take(self, kept: KeptSignals) -> None:
        """Remember what ``kept`` once returned, and nothing else."""
        self.losses, self.gaps, self.gap, self.gap_now = kept.losses, kept.gaps, kept.gap, kept.gap_now
        self._groups = frozenset(kept.groups)

    def _hear_gaps(self, counted: Sequence[EvaluateReply]) -> None:
        groups = self._groups.union(*(reply.audit_groups for reply in counted))
        if groups != self._groups:  # a gap of two groups has a sign, one of more has none: they do not mix
            self.gaps, self.gap, self._groups = {}, None, groups
        alone = {reply.site: self._gap(reply.audit_groups, _noise_of(reply)) for reply in counted}
        self.gaps = _remembered(self.gaps, alone)
        names = sorted({name for reply in counted for name in reply.audit_groups})
        sums = {name: [reply for reply in counted if name in reply.audit_groups] for name in names}
        tables = {name: np.sum([reply.audit_groups[name] for reply in told], axis=0) for name, told in sums.items()}
        noise = {name: math.hypot(*(reply.audit_groups_sd for reply in told)) for name, told in sums.items()}
        self.gap_now = self._gap(tables, noise)
        self.gap = None if self.gap_now is None else _averaged(self.gap, self.gap_now)

    def _gap(self, tables: Tables, noise: Mapping[str, float]) -> Signal | None:
        """Return the gap in how many positives are found, and the deviation of its noise (delta method).

        Of two groups, the first by name minus the second; of more, largest minus smallest. A group whose positives
        cannot be told from none is left out, so that a rare one does not hide the others' gap; None where fewer than
        two remain.
        """
        found = [_sensitivity(tables[name], noise[name], self._positive) for name in sorted(tables)]
        known = [signal for signal in found if signal is not None]
        if len(known) < 2:
            return None
        if len(self._groups) > 2:
            known.sort(key=lambda signal: -signal.value)
        return Signal(known[0].value - known[-1].value, math.hypot(known[0].sd, known[-1].sd))


def _remembered(before: Mapping[str, Signal], told: Mapping[str, Signal | None]) -> dict[str, Signal]:
    after = dict(before)
    for site, signal in told.items():
        if signal is not None:
            after[site] = _averaged(before.get(site), signal)
    return after


def _averaged(before: Signal | None, latest: Signal) -> Signal:
    """Return the latest figure, averaged with the one before where both carry noise."""
    if before is None or 0 in (before.sd, latest.sd):
        return latest
    value = _NEW * latest.value + (1 - _NEW) * before.value
    return Signal(value, math.hypot(_NEW * latest.sd, (1 - _NEW) * before.sd))


def _loss(reply: EvaluateReply) -> Signal | None:
    """Return the mean loss and the standard deviation of its noise (delta method), without that of sampling."""
    if not reply.losses:
        return None
    total, patients, sd = reply.losses["loss"], reply.losses["patients"], reply.losses_sd
    if mean_of(total, patients, sd=sd, low=0.0, high=1.0) is None:
        return None
    share = float(np.clip(total / patients, 0.0, 1.0))
    return Signal(LOSS_CAP * share, LOSS_CAP * sd * math.hypot(1.0, share) / patients)


def _noise_of(reply: EvaluateReply) -> dict[str, float]:
    return dict.fromkeys(reply.audit_groups, reply.audit_groups_sd)


def _sensitivity(table: NDArray[np.float64], sd: float, positive: int) -> Signal | None:
    """Return the share of positives found and the deviation of its noise, without that of sampling."""
    if len(table) != 2:
        return None
    whole, part = np.zeros_like(table), np.zeros_like(table)
    whole[positive], part[positive, positive] = 1, 1
    share = share_of(table, part, whole, cells_sd=sd)
    if share is None:
        return None
    return Signal(share.value, sd * math.hypot(1 - share.value, share.value) / float(table[positive].sum()))

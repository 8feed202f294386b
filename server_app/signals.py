"""What the sites' evaluations tell the next round's rules: the loss and the gap of audit patients."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from fedfm.metrics.counts import LOSS_CAP
from fedfm.metrics.performance import mean_of
from fedfm.wire import EvaluateReply
from server_app.weighting.heard import Signal


class Signals:
    """The latest signals of each site; what was not told, or drowns in its noise, is absent.

    Attributes:
        losses: Site to the mean clipped loss of its audit patients, in nats.
        gaps: Site to the gap between groups of its audit patients.
        gap: The gap over the audit patients of all sites; None where nobody knows.
    """

    def __init__(self) -> None:
        self.losses: Mapping[str, Signal] = {}
        self.gaps: Mapping[str, Signal] = {}
        self.gap: Signal | None = None

    def hear(self, replies: Iterable[EvaluateReply]) -> None:
        """Take the signals of one evaluation; a site that did not answer is remembered as it was."""
        told = {reply.site: _loss(reply) for reply in replies}
        self.losses = {**self.losses, **{site: loss for site, loss in told.items() if loss is not None}}


def _loss(reply: EvaluateReply) -> Signal | None:
    """Return the mean loss and the standard deviation of its noise (delta method), without that of sampling."""
    if not reply.losses:
        return None
    total, patients, sd = reply.losses["loss"], reply.losses["patients"], reply.losses_sd
    if mean_of(total, patients, sd=sd, low=0.0, high=1.0) is None:
        return None
    share = float(np.clip(total / patients, 0.0, 1.0))
    return Signal(LOSS_CAP * share, LOSS_CAP * sd * math.hypot(1.0, share) / patients)

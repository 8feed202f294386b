"""What the coordinator has judged of sites and model: events beside those of ``server_app.report.events``."""

from dataclasses import dataclass

from fedfm.metrics.performance import Estimate


@dataclass(frozen=True)
class ContributionMeasured:
    """What each site's update of this round has brought on the reference set, in nats; ``total`` is what all did."""

    round: int
    method: str
    values: dict[str, float]
    total: float
    evaluations: int


@dataclass(frozen=True)
class ToleranceExceeded:
    """A difference lies beyond its limit with its whole interval; ``attribute`` is empty for ``worst_site``."""

    round: int
    what: str
    attribute: str
    estimate: Estimate
    limit: float
    action: str


@dataclass(frozen=True)
class FinalChosen:
    """The result is the model of this round, for these reasons."""

    round: int
    reasons: tuple[str, ...]


Judgement = ContributionMeasured | ToleranceExceeded | FinalChosen

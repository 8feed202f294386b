"""What happens in a run: the one source of console, report, metrics and verdict."""

from dataclasses import dataclass
from typing import Any

from fedfm.metrics.between_sites import Spread
from fedfm.metrics.gains import Tally
from fedfm.metrics.gaps import Gap, LocalGap
from fedfm.metrics.groups import GroupFigures
from fedfm.metrics.performance import Estimate, Performance
from fedfm.wire import PrivacySpent
from server_app.report.explanations import Explained
from server_app.report.judgements import Judgement


@dataclass(frozen=True)
class RunStarted:
    """The run begins; ``study`` is the whole resolved configuration."""

    run: str
    study: dict[str, Any]
    layout: str
    parameters: int
    release: str


@dataclass(frozen=True)
class RunResumed:
    """The run goes on after an interruption, from its checkpoint of ``round``; 0 is the start.

    ``phase`` is what had been done last in it, trained or evaluated; ``ended`` how the part before has ended, as far as
    it could say; ``damaged`` later checkpoints that could not be used.
    """

    round: int
    phase: str
    ended: str
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class SiteJoined:
    """A site has described itself and takes part; ``round`` 0 is the start."""

    site: str
    round: int
    declared_patients: int
    device: str
    groups: tuple[str, ...]
    privacy: PrivacySpent


@dataclass(frozen=True)
class SiteLeftOut:
    """A site refused, failed, was refused or did not answer; ``phase`` is start, statistics, training or evaluation."""

    site: str
    round: int
    phase: str
    code: str
    reason: str


@dataclass(frozen=True)
class SiteQuarantined:
    """A site is not asked from ``round`` on: its answers in ``rounds``, one after the other, could not be used."""

    site: str
    round: int
    rounds: tuple[int, ...]
    code: str


@dataclass(frozen=True)
class Noised:
    """A figure, and the standard deviation of the noise in it."""

    value: float
    sd: float


@dataclass(frozen=True)
class SiteSummarised:
    """A site's sums over training patients, before round 1, passed the screening."""

    site: str
    seconds: float
    privacy: PrivacySpent


@dataclass(frozen=True)
class StatisticsPooled:
    """What the sums of these sites say together, and what the model's input is standardised by.

    ``columns`` holds missing, mean and deviation of each, in the column's own units; ``states``, of a text model,
    the lengths of the mean state and of the usual distance from it.
    """

    sites: tuple[str, ...]
    seconds: float
    prevalence: dict[str, Noised]
    columns: dict[str, dict[str, Noised]]
    states: dict[str, Noised]


@dataclass(frozen=True)
class RoundStarted:
    """The sites of this round are asked to train; bytes are of the arrays that each receives.

    ``deadline_seconds`` is how long their answers are waited for; 0 in runs of a release that did not say.
    """

    round: int
    sites: tuple[str, ...]
    request_bytes: int
    deadline_seconds: float = 0.0


@dataclass(frozen=True)
class SiteTrained:
    """A site's update passed the screening; bytes are of arrays, one way."""

    site: str
    round: int
    seconds: float
    update_norm: float
    update_bytes: int
    privacy: PrivacySpent


@dataclass(frozen=True)
class RoundCombined:
    """The updates are averaged into the next global model; seconds count from the request to the sites.

    ``fallen_back`` are sites whose signal was missing; ``halved`` those that count half, because their own check has
    failed and they ask for it. A weight of 0: the combiner did not use the update.
    """

    round: int
    weights: dict[str, float]
    update_norm: float
    seconds: float
    fallen_back: tuple[str, ...] = ()
    halved: tuple[str, ...] = ()


@dataclass(frozen=True)
class SiteEvaluated:
    """A site has counted the global model of this round on its test patients; None: it withholds the counts."""

    site: str
    round: int
    seconds: float
    performance: Performance | None
    privacy: PrivacySpent


@dataclass(frozen=True)
class ModelEvaluated:
    """The counts of all sites together; seconds count from the request to the sites."""

    round: int
    sites: tuple[str, ...]
    seconds: float
    performance: Performance


@dataclass(frozen=True)
class GroupsEvaluated:
    """Test patients of the sites that can name a group, ``attribute=group``; None: too few beyond the noise."""

    round: int
    groups: dict[str, GroupFigures | None]


@dataclass(frozen=True)
class GapsEvaluated:
    """How far apart the groups of an attribute, or of an intersection, are: by attribute and by name of the gap.

    ``pooled`` is over the patients of all sites, ``sites`` of each site alone, ``local`` of all sites' own together.
    None: a group has too few patients beyond the noise, or the gap is not defined.
    """

    round: int
    pooled: dict[str, dict[str, Gap | None]]
    sites: dict[str, dict[str, dict[str, Gap | None]]]
    local: dict[str, dict[str, LocalGap | None]]


@dataclass(frozen=True)
class SitesCompared:
    """How accuracy, auroc and loss spread over sites; a figure that fewer than two sites tell is left out."""

    round: int
    figures: dict[str, Spread]


@dataclass(frozen=True)
class GainsMeasured:
    """Accuracy and auroc of this round's model minus those of a model trained at the site alone, on the same patients.

    None: one of the two is not known. ``tallies`` says by figure how many sites gained.
    """

    round: int
    sites: dict[str, dict[str, Estimate | None]]
    tallies: dict[str, Tally]


@dataclass(frozen=True)
class LossMeasured:
    """Mean loss of audit patients in nats, clipped by patient: each site's, and all sites' together."""

    round: int
    sites: dict[str, Estimate | None]
    together: Estimate | None


@dataclass(frozen=True)
class RunEnded:
    """The run has ended; ``status`` is completed or failed."""

    status: str
    code: str
    reason: str
    seconds: float


Event = (
    RunStarted
    | RunResumed
    | SiteJoined
    | SiteLeftOut
    | SiteQuarantined
    | SiteSummarised
    | StatisticsPooled
    | RoundStarted
    | SiteTrained
    | RoundCombined
    | SiteEvaluated
    | ModelEvaluated
    | Explained
    | GroupsEvaluated
    | GapsEvaluated
    | SitesCompared
    | GainsMeasured
    | LossMeasured
    | Judgement
    | RunEnded
)

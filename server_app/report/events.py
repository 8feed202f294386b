"""What happened in a run, one JSON line for each event: the one source of console, report, metrics and verdict.

A line is ``{"version": 1, "kind": "RoundStarted", "time": "2026-01-31T12:00:00.000Z", ...fields}``.
Infinity, which JSON does not know, is the text ``"Infinity"``; not-a-number is never written.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from fedfm.errors import WireError
from fedfm.metrics.between_sites import Spread
from fedfm.metrics.gains import Tally
from fedfm.metrics.gaps import Gap, LocalGap
from fedfm.metrics.groups import GroupFigures
from fedfm.metrics.performance import Estimate, Performance
from fedfm.wire import PrivacySpent
from server_app.report.explanations import Explained
from server_app.report.judgements import Judgement
from server_app.report.lines import append_line, numbered_lines
from server_app.report.typed import typed

EVENTS_VERSION = 1


@dataclass(frozen=True)
class RunStarted:
    """The run begins; ``study`` is the whole resolved configuration."""

    run: str
    study: dict[str, Any]
    layout: str
    parameters: int
    release: str


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
    """The sites of this round are asked to train; bytes are of the arrays that each receives."""

    round: int
    sites: tuple[str, ...]
    request_bytes: int


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
    | SiteJoined
    | SiteLeftOut
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
_KINDS: dict[str, type] = {kind.__name__: kind for kind in get_args(Event)}


class EventLog:
    """Appends events to one file, and tells them to whoever listens.

    Args:
        path: The file; made where it does not exist.
        listener: Called with each event after it is on disk, for example the console.
    """

    def __init__(self, path: Path, listener: Callable[[Event], None]) -> None:
        self.path = path
        self._listeners = [listener]
        path.parent.mkdir(parents=True, exist_ok=True)

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Tell one more listener, after those before it."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Write one line in one piece, then tell the listener."""
        moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        kind = type(event).__name__
        append_line(self.path, {"version": EVENTS_VERSION, "kind": kind, "time": moment, **asdict(event)})
        for listener in self._listeners:
            listener(event)


def read_events(path: Path) -> list[Event]:
    """Read and check every event of a run; a last line that was cut off by a crash is left out.

    Raises:
        WireError: No such file, or a line that is not an event of this version; names file and line.
    """
    if not path.is_file():
        raise WireError(
            "REPORT-E001", "no events", where=str(path), fix="name the folder of a run, as in results/latest"
        )
    return list(_read_lines(path))


def _read_lines(path: Path) -> Iterator[Event]:
    for number, line in numbered_lines(path):
        try:
            yield _event(json.loads(line.decode()))
        except (ValueError, TypeError, KeyError) as problem:
            raise WireError(
                "REPORT-E002",
                "not an event of this release",
                where=f"{path.name}:{number}",
                found=str(problem)[:200],
                allowed=f"version {EVENTS_VERSION}, one of {', '.join(_KINDS)}",
                fix="render the report with the release of fedfm that made the run",
            ) from problem


def _event(document: dict[str, Any]) -> Event:
    version, kind, _ = document.pop("version"), document.pop("kind"), document.pop("time")
    if version != EVENTS_VERSION or kind not in _KINDS:
        raise ValueError(f"version {version}, kind {kind}")
    event: Event = typed(_KINDS[kind], document, kind)
    return event

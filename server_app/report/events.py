"""What happened in a run, one JSON line for each event: the one source of console, report, metrics and verdict.

A line is ``{"version": 1, "kind": "RoundStarted", "time": "2026-01-31T12:00:00.000Z", ...fields}``.
Infinity, which JSON does not know, is the text ``"Infinity"``; not-a-number is never written.
"""

import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from fedfm.errors import WireError
from fedfm.metrics.groups import GroupFigures
from fedfm.metrics.performance import Estimate, Performance
from fedfm.wire import PrivacySpent
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
    """The updates are averaged into the next global model; seconds count from the request to the sites."""

    round: int
    weights: dict[str, float]
    update_norm: float
    seconds: float


@dataclass(frozen=True)
class SiteEvaluated:
    """A site has counted the global model of this round on its test patients."""

    site: str
    round: int
    seconds: float
    performance: Performance
    privacy: PrivacySpent


@dataclass(frozen=True)
class ModelEvaluated:
    """The counts of all sites together; seconds count from the request to the sites."""

    round: int
    sites: tuple[str, ...]
    seconds: float
    performance: Performance


@dataclass(frozen=True)
class ModelExplained:
    """Mean figures over the audit documents of all sites, for example comprehensiveness and random_order."""

    round: int
    documents: float
    means: dict[str, Estimate]


@dataclass(frozen=True)
class GroupsEvaluated:
    """Test patients of the sites that can name a group, ``attribute=group``; None: too few beyond the noise."""

    round: int
    groups: dict[str, GroupFigures | None]


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
    | ModelExplained
    | GroupsEvaluated
    | LossMeasured
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
        self._listener = listener
        path.parent.mkdir(parents=True, exist_ok=True)

    def emit(self, event: Event) -> None:
        """Write one line in one piece, then tell the listener."""
        moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        document = {"version": EVENTS_VERSION, "kind": type(event).__name__, "time": moment, **_plain(asdict(event))}
        line = json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._listener(event)


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
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # what follows the last line break was cut off
    for number, line in enumerate(lines, start=1):
        try:
            yield _event(json.loads(line))
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


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return ``value`` with infinities as text."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return "Infinity" if value == math.inf else value

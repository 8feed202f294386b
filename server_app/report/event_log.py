"""The events of a run in a file, one JSON line for each.

A line is ``{"version": 1, "kind": "RoundStarted", "time": "2026-01-31T12:00:00.000Z", ...fields}``.
Infinity, which JSON does not know, is the text ``"Infinity"``; not-a-number is never written.
"""

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from fedfm.errors import EngineError, WireError
from server_app.report.events import Event
from server_app.report.lines import append_line, numbered_lines
from server_app.report.typed import typed

EVENTS_VERSION = 1

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

    def size(self) -> int:
        """Return its length in bytes."""
        return self.path.stat().st_size if self.path.exists() else 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process from writing the same run.

        Raises:
            EngineError: One does already.
        """
        with self.path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as problem:
                raise EngineError(
                    "RUN-E008", "the run still goes on", where=str(self.path), fix="stop it first: flwr stop RUN"
                ) from problem
            yield

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

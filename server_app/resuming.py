"""An interrupted run is found again, and its event log cut back to the checkpoint that it goes on from."""

import os
from dataclasses import dataclass
from pathlib import Path

from fedfm.config.compose import study_from_json
from fedfm.config.study import Study
from fedfm.errors import ConfigError, EngineError, FedFMError, WireError
from server_app.checkpoints import Checkpoint, newest_checkpoint, write_whole
from server_app.report.event_log import EventLog, read_events
from server_app.report.events import Event, RunEnded, RunResumed

STUDY = "config.resolved.json"


@dataclass(frozen=True)
class Interrupted:
    """A run that can go on.

    Attributes:
        checkpoint: Where it goes on; None: from the start, under the same name.
        happened: Its events until then.
        told: The event to go on with.
    """

    checkpoint: Checkpoint | None
    happened: tuple[Event, ...]
    told: RunResumed


def find_run(results: Path, name: str) -> tuple[Path, Study]:
    """Return the folder and the study of a run.

    Args:
        results: Where runs are written.
        name: The run's, or ``latest``.

    Raises:
        ConfigError: There is no such run, or its study is not to be read.
    """
    folder = (results / name).resolve()
    if Path(name).name != name or not (folder / STUDY).is_file():
        runs = sorted(path.parent.name for path in results.glob(f"*/{STUDY}") if not path.parent.is_symlink())
        raise ConfigError(
            "RUN-E007",
            "no such run to resume",
            where=str(results),
            found=name[:80],
            allowed=f"{', '.join(runs[-5:]) or 'none here'}, or latest",
            fix="name the run as its folder in the results is named",
        )
    try:
        return folder, study_from_json((folder / STUDY).read_text(encoding="utf-8"))
    except (OSError, FedFMError) as problem:
        found = problem.code if isinstance(problem, FedFMError) else type(problem).__name__
        raise ConfigError(
            "RUN-E007",
            "the study of the run cannot be read by this release",
            where=str(folder / STUDY),
            found=found,
            fix="resume it with the release of fedfm that it was started with, or put the file back from a copy",
        ) from problem


def cut_back(log: EventLog) -> Interrupted:
    """Cut the log back to the run's newest whole checkpoint; what is cut off is kept beside it, not lost.

    Called while the log is held.

    Raises:
        EngineError: The run has completed, or cannot go on.
    """
    folder = log.path.parent
    ended = _end_of(log.path)
    checkpoint, damaged = newest_checkpoint(folder)
    length = checkpoint.events if checkpoint else 0
    data = log.path.read_bytes() if log.path.exists() else b""
    if len(data) < length:
        raise EngineError(
            "RUN-E006",
            "the run's events are shorter than they were at its checkpoint",
            where=str(log.path),
            found=f"{len(data)} bytes",
            allowed=f"{length} bytes or more",
            fix="put the folder back from a copy",
        )
    if data[length:]:
        write_whole(_unused(folder), data[length:])
        os.truncate(log.path, length)
    number, phase = (checkpoint.round, checkpoint.phase) if checkpoint else (0, "started")
    happened = tuple(read_events(log.path)) if length else ()
    return Interrupted(checkpoint, happened, RunResumed(number, phase, ended, damaged))


def _end_of(path: Path) -> str:
    """Return how the run has ended so far, in words."""
    try:
        ends = [event for event in read_events(path) if isinstance(event, RunEnded)] if path.exists() else []
    except WireError as problem:
        return f"its events cannot be read to the end ({problem.where})"
    if not ends:
        return "killed, or the machine went down"
    if ends[-1].status == "completed":
        raise EngineError(
            "RUN-E007",
            "the run has completed",
            where=str(path.parent),
            fix="there is nothing to resume; fedfm-study report FOLDER renders its report again, and a new run spends "
            "privacy budget of its own",
        )
    return f"{ends[-1].code} {ends[-1].reason}"


def _unused(folder: Path) -> Path:
    number = 1
    while (folder / f"interrupted-{number}.jsonl").exists():
        number += 1
    return folder / f"interrupted-{number}.jsonl"

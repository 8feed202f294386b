"""Start a run and show it while it goes on, from the events that it writes."""

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from scripts.engine import processes
from scripts.engine.failures import explain
from scripts.engine.federation import Federation
from scripts.engine.launching import control_of
from server_app import runs
from server_app.report import console
from server_app.report.event_log import read_events
from server_app.report.events import Event, RoundStarted
from server_app.report.summary import summarise
from server_app.report.verdict import Verdict, verdict


@dataclass(frozen=True)
class Finished:
    """How a run ended.

    Attributes:
        folder: Its results.
        completed: Whether it ended as it should.
        verdict: What a reader must know first.
        first_training: Moment (``time.monotonic``) when the first round asked for training; 0 if none did.
    """

    folder: Path
    completed: bool
    verdict: Verdict
    first_training: float


def run_and_follow(federation: Federation, app: Path, *, results: Path, overrides: str) -> Finished:
    """Do ``flwr run``, print each event as it happens, and return how it ended.

    Raises:
        EngineError: Flower refused the run, a process of the federation ended, or the run left no results.
    """
    before = _folders(results)
    run = runs.start_run(app, asked={"overrides": overrides}, environment=federation.environment)
    shown, first_training = 0, 0.0
    with closing(control_of(federation)) as control:
        while True:
            status = runs.status_of(control, run)
            events = _events(_folders(results) - before)
            for event in events[shown:]:
                print(console.line(event), flush=True)
                if isinstance(event, RoundStarted) and not first_training:
                    first_training = time.monotonic()
            shown = len(events)
            if status.finished:
                break
            processes.require_running(processes.read(federation.record))
            time.sleep(0.5)
    new = _folders(results) - before
    if not new:
        log = federation.logs / "serverapp.log"
        log.write_text(runs.log_of(run, environment=federation.environment))
        raise explain("the coordinator's app", log)
    judged = verdict(summarise(events))
    completed = status.completed and judged.status == "completed"
    return Finished(max(new), completed, judged, first_training)


def _folders(results: Path) -> set[Path]:
    return {path for path in results.glob("*") if path.is_dir() and not path.is_symlink()}


def _events(folders: set[Path]) -> list[Event]:
    files = [folder / "events.jsonl" for folder in sorted(folders)]
    return [event for file in files if file.exists() for event in read_events(file)]

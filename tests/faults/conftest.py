"""A federation of three tiny hospitals on the real engine, whose processes a test kills, pauses and starts again."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from client_app.ledger import Charge, Ledger, ledger_of
from fedfm.config.compose import load_site
from scripts.engine import processes
from scripts.engine.federation import Federation, Site, stage_app
from scripts.engine.launching import await_sites, control_of
from server_app import runs
from server_app.report.event_log import read_events
from server_app.report.events import Event
from tests.e2e.conftest import TINY, hospitals_online

LONG = "training.local_steps=150 training.learning_rate=0.02"
"""So many steps that a kill in the middle of a round is one in the middle of training."""


@dataclass
class Study:
    """One run of a study on a federation, and what is heard of it."""

    federation: Federation
    app: Path
    overrides: str
    numbers: list[int] = field(default_factory=list)
    before: set[Path] = field(default_factory=set)
    ledgers: dict[str, Ledger] = field(default_factory=dict)

    @property
    def results(self) -> Path:
        return self.federation.state / "results"

    @property
    def folder(self) -> Path:
        (folder,) = (path for path in self.results.glob("2*") if path not in self.before)
        return folder

    def begin(self) -> "Study":
        self.before = set(self.results.glob("2*"))
        return self._start({"overrides": self.overrides})

    def resume(self) -> "Study":
        return self._start({"resume": self.folder.name})

    def _start(self, asked: dict[str, str]) -> "Study":
        self.numbers.append(runs.start_run(self.app, asked=asked, environment=self.federation.environment))
        return self

    def events(self, *kinds: type, site: str = "", round_: int = 0) -> list[Event]:
        """Return what has happened so far, of these kinds, at this site, in this round."""
        files = [path / "events.jsonl" for path in self.results.glob("2*") if path not in self.before]
        happened = [event for file in files if file.exists() for event in read_events(file)]
        return [
            event
            for event in happened
            if (not kinds or isinstance(event, kinds))
            and (not site or getattr(event, "site", "") == site)
            and (not round_ or getattr(event, "round", 0) == round_)
        ]

    def ended(self, *, seconds: float = 240) -> bool:
        """Wait for the end of the latest run; tell whether it completed."""
        with closing(control_of(self.federation)) as control:
            return runs.wait_for(control, self.numbers[-1], seconds=seconds).completed

    def log(self) -> str:
        return runs.log_of(self.numbers[-1], environment=self.federation.environment)

    def charges(self, site: Site) -> list[Charge]:
        """Return what the site's ledger says of this run."""
        if site.id not in self.ledgers:
            self.ledgers[site.id] = ledger_of(load_site(site.file))
        return [charge for charge in self.ledgers[site.id].charges() if charge.run == self.folder.name]


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Three hospitals, online; runs go to ``results``."""
    with hospitals_online(tmp_path_factory.mktemp("federation"), sites=3) as started:
        yield started


@pytest.fixture
def study(federation: Federation) -> Study:
    """A study of four rounds that is ready to begin; every site is there, and afterwards again."""
    await_sites(federation)
    (federation.state / "results").mkdir(exist_ok=True)
    return Study(federation, stage_app(federation.state), f"{TINY} {LONG} rounds=4 min_sites=2 privacy.epsilon=3")


def members(federation: Federation, name: str, program: str) -> list[psutil.Process]:
    """Return the live processes of a program that belong to one on the federation's record."""
    (root,) = (process for process in processes.read(federation.record) if process.name == name)
    found = [psutil.Process(root.pid)] if psutil.pid_exists(root.pid) else []
    every = [*found, *(child for process in found for child in process.children(recursive=True))]
    return [process for process in every if program in " ".join(cmdline(process))]


def cmdline(process: psutil.Process) -> list[str]:
    try:
        words: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return words


def until(done: Callable[[], object], *, seconds: float = 120, what: str = "it") -> None:
    """Wait for an event, and say what did not happen."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"{what} takes too long"
        time.sleep(0.02)

"""kill -9 at random moments: whatever is torn, the run resumes to the same end and no charge is lost or doubled.

Each run is a process of its own that holds coordinator and hospitals (``simulate``), so that every write of either is
a moment in which it may die. It is killed, resumed and killed again until it gets through.
"""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from client_app.ledger import ledger_of
from fedfm.arrays import Arrays, from_bytes
from fedfm.config.compose import load_site
from server_app.report.event_log import read_events
from server_app.report.events import RunEnded, RunResumed, SiteTrained
from tests.e2e.conftest import write_hospitals

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

RUNS = int(os.environ.get("FEDFM_KILL_RUNS", "5"))
"""Of each of the two studies; the figures of docs/reliability.md are of 15."""

STUDY = ("experiment=demo", "model=tiny", "adapter=head", "rounds=5", "explainability=none", "training.local_steps=2")
OPEN = (*STUDY, "privacy=none")

_context = multiprocessing.get_context("forkserver")  # torch is loaded once, in a process without threads
_context.set_forkserver_preload(
    ["server_app.simulate", "server_app.app", "client_app.app", "client_app.trainer.service"]
)


def simulated(folder: Path, overrides: tuple[str, ...], resume: str) -> None:
    """Run in a process of its own; exits with 1 where the run does not complete."""
    os.environ["OMP_NUM_THREADS"] = "1"
    from server_app.simulate import find_sites, simulate  # noqa: PLC0415 - loaded by the fork server

    sink = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    sites = find_sites(folder / "sites", site_file="site.yaml")
    simulate(sites, overrides=() if resume else overrides, results=folder / "results", resume=resume)


def started(folder: Path, overrides: tuple[str, ...], resume: str = "") -> BaseProcess:
    process = _context.Process(target=simulated, args=(folder, overrides, resume))
    process.start()
    return process


def whole(folder: Path, overrides: tuple[str, ...]) -> float:
    """Run without a kill; return the seconds."""
    begun = time.monotonic()
    process = started(folder, overrides)
    process.join()
    assert process.exitcode == 0, (folder / "log").read_text()
    return time.monotonic() - begun


def killed_until_through(folder: Path, overrides: tuple[str, ...], seconds: float, dice: random.Random) -> int:
    """Kill the run at random moments and resume it, until it gets through; return how often it was killed."""
    kills, resume = 0, ""
    while True:
        process = started(folder, overrides, resume)
        process.join(timeout=dice.uniform(0, 0.9 * seconds) if kills < 4 else None)
        if process.exitcode is None:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
        else:
            assert process.exitcode == 0, (folder / "log").read_text()[-3000:]
            return kills
        if has_completed(folder):  # killed over the report, which fedfm-study report renders again
            return kills
        resume = "latest" if (folder / "results" / "latest" / "config.resolved.json").exists() else ""


def has_completed(folder: Path) -> bool:
    logs = list((folder / "results").glob("2*/events.jsonl"))
    happened = read_events(logs[0]) if logs else []
    return bool(happened) and isinstance(happened[-1], RunEnded) and happened[-1].status == "completed"


def adapter(folder: Path) -> Arrays:
    (described,) = (folder / "results").glob("2*/checkpoint.json")
    return from_bytes((described.parent / json.loads(described.read_text())["file"]).read_bytes())


@pytest.fixture(scope="module")
def seed() -> int:
    chosen = int(os.environ.get("FEDFM_KILL_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
    sys.stderr.write(f"\nFEDFM_KILL_SEED={chosen}\n")
    return chosen


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    write_hospitals(folder / "sites", sites=2)
    return folder


def test_every_run_without_noise_ends_with_the_same_model(tmp_path: Path, seed: int) -> None:
    dice, kills = random.Random(seed), Counter[str]()
    whole(made(tmp_path / "first"), OPEN)  # the fork server loads torch meanwhile
    seconds = whole(made(tmp_path / "whole"), OPEN)
    expected = adapter(tmp_path / "whole")
    for number in range(RUNS):
        folder = made(tmp_path / str(number))
        times = killed_until_through(folder, OPEN, seconds, dice)
        found = adapter(folder)
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            assert np.abs(found[name] - array).max() <= 1e-6, (seed, number, name)
        kills.update(checked(folder, times, seed))
    tell(kills)


def test_every_run_with_noise_has_charged_each_release_once(tmp_path: Path, seed: int) -> None:
    dice, kills = random.Random(seed + 1), Counter[str]()
    seconds = whole(made(tmp_path / "whole"), STUDY)
    expected = charges(tmp_path / "whole")
    for number in range(RUNS):
        folder = made(tmp_path / str(number))
        times = killed_until_through(folder, STUDY, seconds, dice)
        assert charges(folder) == expected, (seed, number)
        kills.update(checked(folder, times, seed))
        trained = [event for event in read_events(events_of(folder)) if isinstance(event, SiteTrained)]
        last = [event.privacy for event in trained if event.round == 5]
        assert all(spent.run == pytest.approx(spent.planned, rel=1e-9) for spent in last), (seed, number)
    tell(kills)


def tell(kills: Counter[str]) -> None:
    sys.stderr.write(f"{RUNS} runs, killed {kills['kills']} times, resumed {kills['resumed']} times\n")
    assert kills["kills"] >= RUNS // 2


def charges(folder: Path) -> dict[str, Counter[tuple[int, str, str]]]:
    """Return how often each release of each round is charged, by site."""
    sites = sorted((folder / "sites").glob("*/site.yaml"))
    return {
        path.parent.name: Counter(
            (charge.round, charge.split, charge.purpose) for charge in ledger_of(load_site(path)).charges()
        )
        for path in sites
    }


def events_of(folder: Path) -> Path:
    (events,) = (folder / "results").glob("2*/events.jsonl")
    return events


def checked(folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Hold against each other what a killed run has left; return how often it was killed and resumed."""
    happened = read_events(events_of(folder))
    assert isinstance(happened[-1], RunEnded), seed
    assert happened[-1].status == "completed", seed
    assert not list((folder / "results").rglob("*.partial")), seed
    return {"kills": kills, "resumed": sum(isinstance(event, RunResumed) for event in happened)}

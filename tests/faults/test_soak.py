"""Two hundred rounds: nothing grows but what each round must leave, a line of events and charges."""

import gc
import os
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from client_app.ledger import ledger_of
from fedfm.config.compose import load_site
from server_app.report.event_log import read_events
from server_app.report.events import RoundCombined, RoundStarted, RunEnded
from server_app.simulate import find_sites, simulate
from tests.e2e.conftest import write_hospitals

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

ROUNDS = 200
WARM = 50
"""Rounds after which memory is first looked at: caches are full then."""

MOST_GROWTH = 16 * 2**20
"""Bytes that the process may grow by in the other 150 rounds: what Python keeps of 150 rounds of events is less."""

STUDY = (
    *("experiment=demo", "model=tiny", "adapter=head", "explainability=none", "training.local_steps=1"),
    *(f"rounds={ROUNDS}", "privacy.epsilon=40", "privacy.evaluation_epsilon=40", "privacy.audit_epsilon=40"),
)


@pytest.mark.parametrize("exchange", ["own", "with_training"])
def test_nothing_grows_but_lines(exchange: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_hospitals(tmp_path / "sites", sites=2)
    sites, memory = find_sites(tmp_path / "sites", site_file="site.yaml"), {}
    process = psutil.Process(os.getpid())

    def watched(self: Any, event: Any) -> None:
        emit(self, event)
        if isinstance(event, RoundStarted) and event.round in (WARM, ROUNDS):
            gc.collect()
            memory[event.round] = process.memory_info().rss

    from server_app.report.event_log import EventLog  # noqa: PLC0415 - patched here

    emit = EventLog.emit
    monkeypatch.setattr(EventLog, "emit", watched)
    simulate(sites, overrides=(*STUDY, f"evaluation.exchange={exchange}"), results=tmp_path / "results")
    folder = (tmp_path / "results" / "latest").resolve()
    happened = read_events(folder / "events.jsonl")
    assert isinstance(happened[-1], RunEnded)
    assert happened[-1].status == "completed"
    assert sum(isinstance(event, RoundCombined) for event in happened) == ROUNDS
    assert memory[ROUNDS] - memory[WARM] < MOST_GROWTH
    assert len(list(folder.glob("checkpoint*"))) <= 5
    assert not list((tmp_path / "results").rglob("*.partial"))
    for file in sites.values():
        site = load_site(file)
        state = sorted(path.name for path in Path(site.state).rglob("*") if path.is_file())
        assert len(state) < 20, state
        training = [charge for charge in ledger_of(site).charges() if charge.purpose == "training"]
        assert len(training) == ROUNDS

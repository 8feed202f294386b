"""A hundred rounds: of files nothing grows but what each round must leave, a line of events and its charges."""

from pathlib import Path

import pytest

from client_app.ledger import ledger_of
from fedfm.config.compose import load_site
from server_app.report.event_log import read_events
from server_app.report.events import RoundCombined, RunEnded
from server_app.simulate import find_sites, simulate
from tests.e2e.conftest import write_hospitals

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

ROUNDS = 100
STUDY = (
    *("experiment=demo", "model=tiny", "adapter=head", "explainability=none", "training.local_steps=1"),
    *(f"rounds={ROUNDS}", "privacy.epsilon=40", "privacy.evaluation_epsilon=40", "privacy.audit_epsilon=40"),
    *("evaluation.exchange=with_training", "evaluation.every=5"),
)


def test_no_files_pile_up_over_a_hundred_rounds(tmp_path: Path) -> None:
    write_hospitals(tmp_path / "sites", sites=2)
    sites = find_sites(tmp_path / "sites", site_file="site.yaml")
    simulate(sites, overrides=STUDY, results=tmp_path / "results")
    folder = (tmp_path / "results" / "latest").resolve()
    happened = read_events(folder / "events.jsonl")
    assert isinstance(happened[-1], RunEnded)
    assert happened[-1].status == "completed"
    assert sum(isinstance(event, RoundCombined) for event in happened) == ROUNDS
    assert len(list(folder.glob("checkpoint*"))) <= 5
    assert not list((tmp_path / "results").rglob("*.partial"))
    for file in sites.values():
        site = load_site(file)
        state = sorted(path.name for path in Path(site.state).rglob("*") if path.is_file())
        assert len(state) < 20, state
        training = [charge for charge in ledger_of(site).charges() if charge.purpose == "training"]
        assert len(training) == ROUNDS

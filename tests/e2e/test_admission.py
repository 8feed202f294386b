"""A hospital that is put out on the real engine: it takes no part any more, and never comes back with this key."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from client_app.keys import make_node_key
from fedfm.errors import ConfigError
from scripts.engine import processes
from scripts.engine.failures import explain
from scripts.engine.federation import Federation, stage_app
from scripts.engine.launching import control_of, start_supernode
from server_app import admission, runs
from server_app.report.event_log import read_events
from server_app.report.events import SiteTrained
from tests.e2e.conftest import TINY, hospitals_online

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Three tiny hospitals, online."""
    with hospitals_online(tmp_path_factory.mktemp("federation"), sites=3) as started:
        yield started


def trained(federation: Federation) -> list[SiteTrained]:
    files = (federation.state / "results").glob("2*/events.jsonl")
    return [event for file in files for event in read_events(file) if isinstance(event, SiteTrained)]


def until(done: Callable[[], object], *, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.1)


def test_a_revoked_site_drops_out_of_the_run_and_cannot_come_back(three: Federation, tmp_path: Path) -> None:
    gone = three.sites[1]
    overrides = f"{TINY} rounds=4 min_sites=2 round_minutes=0.5"
    number = runs.start_run(stage_app(three.state), asked={"overrides": overrides}, environment=three.environment)
    until(lambda: any(event.site == gone.id for event in trained(three)))
    with closing(control_of(three)) as control:
        admission.revoke(control, gone.id)
        rounds = {event.round for event in trained(three) if event.site == gone.id}
        until(lambda: gone.id not in admission.sites_online(control))
        assert runs.wait_for(control, number, seconds=240).completed
    by_site = {site.id: {event.round for event in trained(three) if event.site == site.id} for site in three.sites}
    assert by_site[gone.id] <= rounds | {max(rounds) + 1}, "what was under way may have been sent already"
    assert 4 not in by_site[gone.id]
    assert all(by_site[site.id] == {1, 2, 3, 4} for site in three.sites if site is not gone)

    (node,) = (each for each in processes.read(three.record) if each.name == f"supernode {gone.id}")
    until(lambda: not processes.is_running(node))
    again = start_supernode(three, gone)
    until(lambda: not processes.is_running(again))
    assert explain(again.name, Path(again.log)).code == "ENGINE-E125"
    with closing(control_of(three)) as control:
        with pytest.raises(ConfigError, match="STUDY-E091 this key was revoked"):
            admission.register(control, gone.id, gone.public_key)
        states = {each.site: each.state for each in admission.sites(control)}
        assert states == {site.id: "revoked" if site is gone else "online" for site in three.sites}
        admission.register(control, gone.id, make_node_key(tmp_path / "new"))
        assert (gone.id, "never seen") in {(each.site, each.state) for each in admission.sites(control)}

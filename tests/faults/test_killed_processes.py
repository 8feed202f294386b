"""Each process of a federation is killed in the middle of a round: who is left goes on, and who is back takes part."""

import signal
from collections import Counter
from contextlib import closing
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from scripts.engine import processes
from scripts.engine.federation import Federation, Site
from scripts.engine.launching import await_sites, control_of, start_superlink, start_supernode, start_trainer
from server_app import admission
from server_app.report.events import RoundCombined, RunResumed, SiteLeftOut, SiteTrained
from tests.faults.conftest import Study, members, until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


def in_round(study: Study, number: int, site: Site) -> Study:
    """Begin, and wait until the site trains in this round: its charge is on disk, and its answer is not."""
    study.begin()
    until(
        lambda: (
            any(path not in study.before for path in study.results.glob("2*"))
            and any(charge.round == number and charge.purpose == "training" for charge in study.charges(site))
        ),
        what=f"round {number}",
    )
    assert not study.events(SiteTrained, site=site.id, round_=number)
    return study


def once(study: Study, site: Site) -> None:
    """Every release of the run is charged once."""
    counted = Counter((charge.round, charge.split, charge.purpose) for charge in study.charges(site))
    assert set(counted.values()) == {1}, counted


def test_a_killed_serverapp_fails_the_run_which_resumes_and_charges_nothing_twice(
    federation: Federation, study: Study
) -> None:
    in_round(study, 2, federation.sites[0])
    (app,) = members(federation, "superexec superlink", "flwr-serverapp")
    app.kill()
    assert not study.ended()
    assert study.resume().ended(), study.log()
    (resumed,) = study.events(RunResumed)
    assert (resumed.round, resumed.phase) == (1, "evaluated")  # type: ignore[union-attr]
    assert "killed" in resumed.ended  # type: ignore[union-attr]
    for site in federation.sites:
        assert [event.round for event in study.events(SiteTrained, site=site.id)] == [1, 2, 3, 4]  # type: ignore[union-attr]
        once(study, site)


def test_a_killed_superlink_loses_no_round_that_was_kept(federation: Federation, study: Study) -> None:
    in_round(study, 3, federation.sites[0])
    (superlink,) = (process for process in processes.read(federation.record) if process.name == "superlink")
    for member in [*psutil.Process(superlink.pid).children(recursive=True), psutil.Process(superlink.pid)]:
        member.kill()
    processes.end(federation.record, superlink)
    start_superlink(federation)
    with closing(control_of(federation)) as control:
        until(lambda: admission.answers(control), what="the SuperLink")
    await_sites(federation)
    if not study.ended():
        assert study.resume().ended(), study.log()
    for site in federation.sites:
        assert {event.round for event in study.events(SiteTrained, site=site.id)} == {1, 2, 3, 4}  # type: ignore[union-attr]
        once(study, site)


def test_a_killed_clientapp_costs_its_site_the_round_and_nobody_else(federation: Federation, study: Study) -> None:
    site = federation.sites[1]
    in_round(study, 2, site)
    (app,) = members(federation, f"superexec {site.id}", "flwr-clientapp")
    app.kill()
    assert study.ended(), study.log()
    (left,) = study.events(SiteLeftOut)
    assert (left.site, left.round, left.phase) == (site.id, 2, "training")  # type: ignore[union-attr]
    assert left.code.startswith("FLOWER-E00")  # type: ignore[union-attr]
    assert [event.round for event in study.events(SiteTrained, site=site.id)] == [1, 3, 4]  # type: ignore[union-attr]
    assert [len(event.weights) for event in study.events(RoundCombined)] == [3, 2, 3, 3]  # type: ignore[union-attr]


def test_a_killed_trainer_that_comes_back_answers_in_the_same_round_on_the_same_charge(
    federation: Federation, study: Study
) -> None:
    site = federation.sites[1]
    in_round(study, 2, site)
    for process in psutil.process_iter():
        if holds(process, str(site.socket)):
            process.kill()
    start_trainer(federation, site)
    assert study.ended(), study.log()
    assert not study.events(SiteLeftOut)
    assert [event.round for event in study.events(SiteTrained, site=site.id)] == [1, 2, 3, 4]  # type: ignore[union-attr]
    once(study, site)


def test_a_killed_supernode_is_named_and_takes_part_again_when_it_is_back(federation: Federation, study: Study) -> None:
    site = federation.sites[2]
    study.overrides = study.overrides.replace("rounds=4", "rounds=8")
    in_round(study, 2, site)
    (node,) = (process for process in processes.read(federation.record) if process.name == f"supernode {site.id}")
    for member in [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]:
        member.kill()
    processes.end(federation.record, node)
    come_back(federation, site)
    assert study.ended(), study.log()
    assert {event.site for event in study.events(SiteLeftOut)} == {site.id}  # type: ignore[union-attr]
    assert study.events(SiteLeftOut, site=site.id, round_=2)
    assert study.events(SiteTrained, site=site.id, round_=8)
    once(study, site)


def come_back(federation: Federation, site: Site) -> None:
    """Start its SuperNode until it is let in, as a restart policy does: for a minute the key is taken for a twin's."""
    while True:
        node = start_supernode(federation, site)
        until(lambda log=Path(node.log), it=node: "SuperNode ID" in log.read_text() or not processes.is_running(it))
        if processes.is_running(node):
            return
        processes.end(federation.record, node)


def test_a_site_that_hangs_is_late_by_name_and_takes_part_again_when_it_moves(
    federation: Federation, study: Study
) -> None:
    site = federation.sites[2]
    study.overrides += " round_minutes=0.3"
    in_round(study, 2, site)
    hanging = [process for process in psutil.process_iter() if holds(process, str(site.socket))]
    for process in hanging:
        process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: study.events(SiteLeftOut, site=site.id, round_=2), what="the deadline")
    finally:
        for process in hanging:
            process.send_signal(signal.SIGCONT)
    assert study.ended(), study.log()
    (late, *_) = study.events(SiteLeftOut, site=site.id, round_=2)
    assert late.code == "ROUND-E002"  # type: ignore[union-attr]
    assert study.events(SiteTrained, site=site.id, round_=4)


def holds(process: psutil.Process, path: str) -> bool:
    try:
        return any(connection.laddr == path for connection in process.net_connections(kind="unix"))
    except psutil.Error:
        return False

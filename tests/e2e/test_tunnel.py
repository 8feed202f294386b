"""A real SuperNode and a real SuperLink with the tunnel between them: it takes part, is cut off, and comes back."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fedfm.certificates import read_certificates
from fedfm.tunnel_certificates import CERTIFICATE, make_pair
from scripts.engine import processes
from scripts.engine.federation import Federation, prepare
from scripts.engine.launching import control_of, start_superlink, start_supernode
from server_app import admission
from server_app.tunnel_admission import pin, unpin
from tests.e2e.conftest import write_hospitals
from tests.e2e.test_fleet import until
from tests.tunnel_ends import coordinators_end, hospitals_end

pytestmark = pytest.mark.engine


@dataclass(frozen=True)
class Tunnelled:
    """A SuperLink with one hospital, which reaches it through the tunnel."""

    federation: Federation
    folder: Path

    def passed(self) -> int:
        """How often the hospital has come through."""
        return self.folder.with_name("coordinator.log").read_text().count("passes")


@pytest.fixture
def tunnelled(tmp_path: Path) -> Iterator[Tunnelled]:
    federation = prepare(write_hospitals(tmp_path / "data", sites=1), tmp_path, results=tmp_path / "results")
    (site,) = federation.sites
    centre, hospital = tmp_path / "tunnel", tmp_path / "of-hospital"
    for folder in (centre / "admitted", hospital):
        folder.mkdir(parents=True)
    make_pair(centre, "coordinator")
    shutil.copy(centre / CERTIFICATE, hospital / "coordinator.crt")
    pin(centre / "admitted", site.id, make_pair(hospital, site.id))
    with ExitStack() as stack:
        stack.callback(processes.stop, federation.record)
        link = start_superlink(federation)
        with closing(control_of(federation)) as control:
            processes.wait_until(lambda: admission.answers(control), [link], seconds=60, what="the SuperLink")
            admission.register(control, site.id, site.public_key)
        near = stack.enter_context(
            hospitals_end(hospital, stack.enter_context(coordinators_end(centre, federation.fleet)))
        )
        yield Tunnelled(replace(federation, sites=(replace(site, fleet=near),)), centre)


def test_a_supernode_takes_part_through_the_tunnel_and_comes_back_after_it_was_cut_off(tunnelled: Tunnelled) -> None:
    (site,) = tunnelled.federation.sites
    admitted, files = tunnelled.folder / "admitted", tunnelled.folder.parent / "of-hospital"
    node = start_supernode(tunnelled.federation, site)
    with closing(control_of(tunnelled.federation)) as control:
        until(lambda: site.id in admission.sites_online(control))
    assert unpin(admitted, site.id) == 1
    until(lambda: "SITE-E236" in (files / "log").read_text())
    assert processes.is_running(node), "it would have to be started by hand"
    before = tunnelled.passed()
    pin(admitted, site.id, read_certificates(files / CERTIFICATE)[0])
    until(lambda: tunnelled.passed() > before)

"""Real SuperNodes that are kept out by a real SuperLink: each cause in the log, and told apart by the doctor.

What a log can tell is less than what the doctor does: where two causes read alike, both stand here with one code of the
log and two of the doctor.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from client_app.commands.log_reading import CODES
from client_app.doctor import coordinator as coordinator_doctor
from client_app.doctor import keys, network
from client_app.keys import make_node_key
from fedfm.config.site import Network
from fedfm.flower_logs import read, tail_of
from fedfm.private_files import make_secret
from scripts.engine import processes
from scripts.engine.failures import explain
from scripts.engine.federation import Federation, prepare
from scripts.engine.launching import control_of, start_superlink, start_supernode
from server_app import admission
from server_app.certificates import renew
from tests import superlink, tls
from tests.e2e.conftest import write_hospitals
from tests.e2e.test_fleet import until
from tests.tls import DAY

pytestmark = pytest.mark.engine

SHIFTED = """
import datetime, os
real = datetime.datetime
class Shifted(real):
    @classmethod
    def now(cls, tz=None):
        return real.now(tz) + datetime.timedelta(seconds=float(open(os.environ["SHIFT_FILE"]).read() or 0))
datetime.datetime = Shifted
"""
"""A ``sitecustomize.py`` that lets a process live at another time, as a file says; Flower asks ``datetime.now``."""


@dataclass(frozen=True)
class Coordinator:
    """A SuperLink without trainers or runs, and one admitted hospital."""

    federation: Federation

    @property
    def network(self) -> Network:
        site = self.federation.sites[0]
        return Network(self.federation.fleet, str(self.federation.certificates.authority), str(site.key))


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    state = tmp_path_factory.mktemp("refused")
    federation = prepare(write_hospitals(state / "data", sites=1), state, results=state / "results")
    try:
        link = start_superlink(federation)
        with closing(control_of(federation)) as control:
            processes.wait_until(lambda: admission.answers(control), [link], seconds=60, what="the SuperLink")
            admission.register(control, federation.sites[0].id, federation.sites[0].public_key)
        yield Coordinator(federation)
    finally:
        processes.stop(federation.record)


def examined(named: Network) -> list[str]:
    """Return the codes that the doctor gives a hospital with these settings."""
    found = [
        *keys.checks(named, Path("/")),
        *network.checks(named, Path("/"), {}),
        *coordinator_doctor.checks(named, Path("/")),
    ]
    return [finding.code for finding in found if finding.code]


def supernode(coordinator: Coordinator, name: str, named: Network, *, ahead: float = 0.0) -> processes.Process:
    """Start a SuperNode with these settings, at a time of its own."""
    federation = coordinator.federation
    make_secret(federation.state / "secrets" / name)
    site = replace(federation.sites[0], id=name, port=tls.free_port(), fleet=named.coordinator)
    shutil.copy(named.node_key, site.key)
    if ahead:
        folder = federation.state / "elsewhen"
        folder.mkdir(exist_ok=True)
        (folder / "seconds").write_text(str(ahead))
        federation = replace(federation, environment=elsewhen(federation.environment, folder))
    made = replace(federation.certificates, authority=Path(named.authority))
    return start_supernode(replace(federation, certificates=made), site)


def elsewhen(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the environment of a process at another time: by so many seconds as ``folder/seconds`` says."""
    (folder / "sitecustomize.py").write_text(SHIFTED)
    path = f"{folder}:{environment['PYTHONPATH']}"
    return {**environment, "SHIFT_FILE": str(folder / "seconds"), "PYTHONPATH": path}


def codes_of_log(node: processes.Process) -> tuple[str, str]:
    """Wait until the log tells of a cause; return the engine's code for it, and the hospital's."""
    log = Path(node.log)
    until(lambda: read(tail_of(log.read_text(errors="replace"))), seconds=40)
    known = read(tail_of(log.read_text(errors="replace")))
    assert known
    return explain(node.name, log).code, CODES[known[0].kind][0]


def test_an_admitted_hospital_passes_and_the_superlink_is_as_it_was(coordinator: Coordinator) -> None:
    assert examined(coordinator.network) == []
    with closing(control_of(coordinator.federation)) as control:
        assert admission.sites_online(control) == set()


def test_an_unknown_key_and_a_twin_read_alike_in_the_log_and_not_to_the_doctor(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = replace(coordinator.network, node_key=str(coordinator.federation.state / "strangers.key"))
    make_node_key(Path(stranger.node_key))
    monkeypatch.setattr(coordinator_doctor, "supernode_here", lambda: False)
    assert codes_of_log(supernode(coordinator, "stranger", stranger)) == ("ENGINE-E125", "SITE-E125")
    assert examined(stranger) == ["SITE-E125"]
    first = supernode(coordinator, "first", coordinator.network)
    with closing(control_of(coordinator.federation)) as control:
        until(lambda: admission.sites_online(control), seconds=40)
        assert codes_of_log(supernode(coordinator, "twin", coordinator.network)) == ("ENGINE-E125", "SITE-E125")
        assert examined(coordinator.network) == ["SITE-W126"]
        assert processes.is_running(first)
        assert admission.sites_online(control), "the doctor has not put out the one that runs"
    assert "SuperNode ID" in Path(first.log).read_text()
    processes.end(coordinator.federation.record, first)
    monkeypatch.undo()


@pytest.mark.parametrize(("ahead", "name"), [(60.0, "ahead"), (-400.0, "behind")])
def test_a_clock_that_is_wrong(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, ahead: float, name: str
) -> None:
    node = supernode(coordinator, name, coordinator.network, ahead=ahead)
    assert codes_of_log(node) == ("ENGINE-E127", "SITE-E127")
    real = coordinator_doctor.Fleet._signed
    monkeypatch.setattr(coordinator_doctor.Fleet, "_signed", lambda fleet, shift: real(fleet, shift + ahead))
    assert examined(coordinator.network) == ["SITE-E127"]


@pytest.mark.parametrize("is_online", [False, True])
def test_a_clock_that_is_wrong_ends_a_supernode_with_exit_code_0(
    coordinator: Coordinator, tmp_path: Path, is_online: bool
) -> None:
    """As ``docker stop`` would; a supervisor that starts it again only after a failure would leave it off."""
    (tmp_path / "ca.crt").write_bytes(STUDY.pem)
    public = make_node_key(tmp_path / "node.key")
    seconds, log = tmp_path / "seconds", tmp_path / "log"
    seconds.write_text("0" if is_online else "60")
    with superlink.fleet(tls.server(STUDY)) as served, log.open("wb") as lines:
        served.register(public)
        command = [str(Path(sys.executable).with_name("flower-supernode")), "--grpc-rere", "--isolation=process"]
        command += [f"--superlink={served.address}", f"--root-certificates={tmp_path / 'ca.crt'}"]
        command += [f"--auth-supernode-private-key={tmp_path / 'node.key'}", f"--port={tls.free_port()}"]
        environment = elsewhen({**os.environ, **coordinator.federation.environment}, tmp_path)
        node = subprocess.Popen([*command, "--host=127.0.0.1"], env=environment, stdout=lines, stderr=lines)
        try:
            if is_online:
                until(lambda: "SuperNode ID" in log.read_text(), seconds=40)
                seconds.write_text("60")
            assert node.wait(40) == 0
        finally:
            node.kill()
    assert "SuperNode terminated gracefully" in log.read_text()


STUDY = tls.authority()
SHOWN = {
    "expired": (tls.server(STUDY, begins=-9 * DAY, ends=-DAY), ("ENGINE-E120", "SITE-E120"), ["SITE-E120"]),
    "not-yet": (tls.server(STUDY, begins=DAY), ("ENGINE-E123", "SITE-E148"), ["SITE-E148"]),
    "other-host": (tls.server(STUDY, ["other.example"]), ("ENGINE-E126", "SITE-E146"), ["SITE-E121"]),
    "other-authority": (tls.server(tls.authority()), ("ENGINE-E122", "SITE-E122"), ["SITE-E122"]),
    "inspected": (tls.server(tls.authority("Hospital Proxy CA")), ("ENGINE-E122", "SITE-E122"), ["SITE-E128"]),
    "plain": (None, ("ENGINE-E129", "SITE-E129"), ["SITE-E129"]),
}


@pytest.mark.parametrize("name", SHOWN)
def test_what_a_port_shows_in_the_place_of_the_right_certificate(
    coordinator: Coordinator, tmp_path: Path, name: str
) -> None:
    shown, in_log, by_doctor = SHOWN[name]
    (tmp_path / "ca.crt").write_bytes(STUDY.pem)
    with superlink.fleet(shown) as served:
        named = replace(coordinator.network, coordinator=served.address, authority=str(tmp_path / "ca.crt"))
        assert codes_of_log(supernode(coordinator, name, named)) == in_log
        assert examined(named) == by_doctor


def test_a_port_at_which_nobody_listens(coordinator: Coordinator) -> None:
    nobody = replace(coordinator.network, coordinator=f"127.0.0.1:{tls.free_port()}")
    assert codes_of_log(supernode(coordinator, "nobody", nobody)) == ("ENGINE-E126", "SITE-E146")
    assert examined(nobody) == ["SITE-E145"]


def test_the_control_port_is_told_from_the_fleet_port(coordinator: Coordinator) -> None:
    assert examined(replace(coordinator.network, coordinator=coordinator.federation.control)) == ["SITE-E147"]


def test_a_supernode_with_the_bundle_of_a_renewal_joins_the_coordinator_as_it_is(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    folder = coordinator.federation.certificates.authority.parent
    bundle = tmp_path / "ca.crt"
    bundle.write_bytes(renew(folder).authority.read_bytes())
    assert len(re.findall("BEGIN CERTIFICATE", bundle.read_text())) == 2
    node = supernode(coordinator, "with-bundle", replace(coordinator.network, authority=str(bundle)))
    with closing(control_of(coordinator.federation)) as control:
        until(lambda: admission.sites_online(control), seconds=60)
    processes.end(coordinator.federation.record, node)

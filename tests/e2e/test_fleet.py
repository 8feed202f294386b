"""What travels between a hospital and the coordinator on the real engine, and who may join."""

import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest

from client_app.keys import make_node_key
from fedfm.arrays import from_bytes, norm, update_of
from fedfm.config.compose import compose_study
from fedfm.errors import EngineError
from fedfm.private_files import make_secret
from scripts.engine import processes
from scripts.engine.failures import explain
from scripts.engine.federation import Federation, stage_app
from scripts.engine.following import Finished, run_and_follow
from scripts.engine.launching import control_of, start_supernode, start_trainer
from server_app import admission, model_host, runs
from server_app.certificates import make_certificates
from server_app.report.event_log import read_events
from server_app.report.events import RunEnded, SiteTrained
from server_app.simulate import simulate
from tests.e2e.conftest import TINY
from tests.e2e.relay import Relay

pytestmark = pytest.mark.engine

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(
    [0, 0, 0, 4, 0, 0, 0, 0, 0]
)  # what a plain gRPC client says first
TLS_ALERT = 0x15


def run(federation: Federation, overrides: str) -> Finished:
    return run_and_follow(
        federation, stage_app(federation.state), results=federation.state / "results", overrides=overrides
    )


@pytest.fixture(scope="module")
def finished(federation: Federation) -> Finished:
    """One run over two rounds; what it sent is in the relay."""
    return run(federation, f"{TINY} rounds=2")


def test_a_run_completes_with_a_report_and_an_adapter(federation: Federation, finished: Finished) -> None:
    events = read_events(finished.folder / "events.jsonl")
    assert finished.completed
    assert isinstance(events[-1], RunEnded)
    assert events[-1].status == "completed"
    assert {(event.site, event.round) for event in events if isinstance(event, SiteTrained)} == {
        (site.id, number) for site in federation.sites for number in (1, 2)
    }
    assert "<html" in (finished.folder / "report.html").read_text()
    assert (finished.folder / "adapter").is_dir()


def test_what_a_site_sends_is_tls_with_http2_and_nothing_of_it_is_readable(
    federation: Federation, finished: Finished, relay: Relay
) -> None:
    assert finished.completed
    assert relay.to_server
    for sent in relay.to_server:
        assert sent[:2] == b"\x16\x03", "every connection begins with a TLS ClientHello"
        assert b"\x00\x10" in sent[:2048], "it carries the ALPN extension"
        assert b"\x02h2" in sent[:2048], "and offers HTTP/2"
    passed = b"".join(map(bytes, [*relay.to_server, *relay.to_client]))
    parameters = model_host.build(compose_study(TINY.split()).value)[1]
    words = [name.encode() for name in parameters] + [
        b"flwr.proto.Fleet",
        b"num-examples",
        finished.folder.name.encode(),
    ]
    kept = b"".join(path.read_bytes() for path in federation.state.glob("superlink.db*"))
    assert any(word in kept for word in words), "the same words do stand in what the coordinator received"
    assert len(passed) > sum(array.nbytes for array in parameters.values())
    assert [word for word in words if word in passed] == []


def test_the_fleet_port_gives_a_plain_client_nothing(federation: Federation) -> None:
    host, _, port = federation.fleet.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain:
        plain.sendall(PREFACE)
        try:
            answer = plain.recv(1024)
        except ConnectionResetError:
            answer = b""
    assert answer == b"" or answer[0] == TLS_ALERT


def test_the_fleet_port_speaks_grpc_to_who_trusts_its_authority(federation: Federation, tmp_path: Path) -> None:
    host, _, port = federation.fleet.rpartition(":")
    trusting = ssl.create_default_context(cafile=str(federation.certificates.authority))
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection((host, int(port)), timeout=10) as raw,
        trusting.wrap_socket(raw, server_hostname=host) as tls,
    ):
        assert tls.selected_alpn_protocol() == "h2"
        assert tls.version() in ("TLSv1.2", "TLSv1.3")
    assert can_connect(federation.fleet, federation.certificates.authority)
    assert not can_connect(federation.fleet, make_certificates(tmp_path).authority), "another authority is not enough"


def can_connect(address: str, authority: Path) -> bool:
    credentials = grpc.ssl_channel_credentials(authority.read_bytes())
    with grpc.secure_channel(address, credentials) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=5)
        except grpc.FutureTimeoutError:
            return False
    return True


def test_a_supernode_with_an_unregistered_key_is_refused(federation: Federation) -> None:
    stranger = replace(federation.sites[1], id="stranger", port=free_port())
    make_node_key(stranger.key)
    make_secret(federation.state / "secrets" / stranger.id)
    node = start_supernode(federation, stranger)
    until(lambda: not processes.is_running(node))
    processes.end(federation.record, node)
    error = explain(node.name, Path(node.log))
    assert error.code == "ENGINE-E125"
    assert error.found == "2004"
    with closing(control_of(federation)) as control:
        assert admission.sites_online(control) == {site.id for site in federation.sites}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_a_wrong_connection_name_is_named(federation: Federation) -> None:
    with pytest.raises(EngineError, match="nowhere"):
        runs.start_run(
            stage_app(federation.state),
            asked={"overrides": TINY},
            environment=federation.environment,
            connection="nowhere",
        )


def test_a_wrong_override_is_explained_by_the_coordinators_app(federation: Federation) -> None:
    with pytest.raises(EngineError, match="roundz"):
        run(federation, f"{TINY} roundz=2")


def test_a_trainer_killed_between_rounds_has_not_forgotten_what_was_spent(federation: Federation) -> None:
    site = federation.sites[1]
    results: list[Finished] = []
    (federation.state / "results").mkdir(exist_ok=True)
    before = set((federation.state / "results").iterdir())
    running = threading.Thread(target=lambda: results.append(run(federation, f"{TINY} rounds=3 privacy.epsilon=2")))
    running.start()
    until(lambda: trained(federation, before, site.id))
    first = trained(federation, before, site.id)[0]
    for trainer in (process for process in psutil.process_iter() if holds(process, str(site.socket))):
        trainer.kill()
    start_trainer(federation, site)
    running.join(timeout=180)
    spent = [event.privacy.run for event in trained(federation, before, site.id)]
    assert results[0].completed
    assert spent[0] == first.privacy.run > 0
    assert spent == sorted(spent)
    assert len(spent) >= 2
    assert spent[-1] > spent[0]


def trained(federation: Federation, before: set[Path], site: str) -> list[SiteTrained]:
    new = [folder for folder in (federation.state / "results").iterdir() if folder not in before]
    files = [folder / "events.jsonl" for folder in new if not folder.is_symlink()]
    events = [event for file in files if file.exists() for event in read_events(file)]
    return [event for event in events if isinstance(event, SiteTrained) and event.site == site]


def holds(process: psutil.Process, path: str) -> bool:
    try:
        return any(connection.laddr == path for connection in process.net_connections(kind="unix"))
    except psutil.Error:
        return False


def until(done: Callable[[], object], *, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.1)


def test_a_simulation_gives_what_the_engine_gives_without_noise(federation: Federation, tmp_path: Path) -> None:
    # the last test of this federation: a run without privacy closes its ledgers for private ones
    overrides = f"{TINY} rounds=2 privacy=none evaluation.every=2"
    on_engine = run(federation, overrides)
    sites = {}
    for site in federation.sites:
        folder = tmp_path / site.id
        shutil.copytree(site.file.parent, folder, ignore=shutil.ignore_patterns("state"))
        sites[site.id] = folder / "site.yaml"
    simulate(sites, overrides=overrides.split(), results=tmp_path / "results")
    (simulated,) = (tmp_path / "results").glob("2*/checkpoint-0002.safetensors")
    expected = from_bytes((on_engine.folder / "checkpoint-0002.safetensors").read_bytes())
    found = from_bytes(simulated.read_bytes())
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert np.abs(found[name] - array).max() < 1e-6, name
    start = model_host.build(compose_study(overrides.split()).value)[1]
    assert norm(update_of(start, found)) > 0.1  # something was learned, so the comparison can fail

"""Start a federation on one machine: a SuperLink, and a SuperNode, an executor and a trainer for each site.

The same programs with the same flags as in a hospital network: gRPC over TLS between SuperNodes
and SuperLink, node keys, apps in processes of their own, SQLite. Everything listens on loopback.
"""

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from flwr.supercore.control import ControlHttpClient

from fedfm.errors import EngineError
from scripts.engine import processes
from scripts.engine.federation import HOST, Federation, Site, prepare, record_of
from server_app import admission

START_SECONDS = 120.0


@contextmanager
def running(
    site_files: Sequence[Path], state: Path, *, results: Path, port: int = 0, keep: bool = False
) -> Iterator[Federation]:
    """Run a federation of these hospitals (see ``prepare``); stop all of it at the end, whatever happens.

    With ``keep`` it goes on after the block, unless the block ends with an error.

    Raises:
        EngineError: No hospitals, or a process could not do its part; names it, its log and what to do.
    """
    if not site_files:
        raise EngineError(
            "ENGINE-E104", "no hospitals", found="0 site files", allowed="1 or more", fix="name a site.yaml"
        )
    processes.stop(record_of(state))
    try:
        federation = prepare(site_files, state, results=results, port=port, keep=keep)
        launch(federation)
        yield federation
    except BaseException:
        processes.stop(record_of(state))
        raise
    if not keep:
        processes.stop(record_of(state))


def launch(federation: Federation) -> None:
    """Start everything and register the sites; ``await_sites`` then waits until they are there.

    Raises:
        EngineError: A process could not do its part.
    """
    superlink = start_superlink(federation)
    start_trainers(federation)
    with closing(control_of(federation)) as control:
        processes.wait_until(
            lambda: admission.answers(control), [superlink], seconds=START_SECONDS, what="the SuperLink"
        )
        start_executor(federation, None)
        for site in federation.sites:
            admission.register(control, site.id, site.public_key)
            start_supernode(federation, site)
            start_executor(federation, site)


def await_sites(federation: Federation) -> None:
    """Wait until every site's SuperNode is online and its trainer serves.

    Raises:
        EngineError: A process ended, or it took longer than two minutes.
    """
    started = processes.read(federation.record)
    wanted = {site.id for site in federation.sites}
    with closing(control_of(federation)) as control:
        processes.wait_until(
            lambda: (
                wanted <= admission.sites_online(control) and all(_serves(site.socket) for site in federation.sites)
            ),
            started,
            seconds=START_SECONDS,
            what=f"one of {', '.join(sorted(wanted))}",
            interval=0.2,
        )


def control_of(federation: Federation) -> ControlHttpClient:
    """Return a client of the federation's Control API; close it after use."""
    return admission.client(federation.control, federation.certificates.authority)


def start_superlink(federation: Federation) -> processes.Process:
    """Start the coordinator's SuperLink."""
    certificates = federation.certificates
    return federation.start(
        "superlink",
        *(_program("flower-superlink"), "--ssl-ca-certfile", str(certificates.authority)),
        *("--ssl-certfile", str(certificates.server), "--ssl-keyfile", str(certificates.server_key)),
        *("--host", HOST, "--port", federation.control.rpartition(":")[2]),
        *("--fleet-api-type", "grpc-rere", "--fleet-api-address", federation.fleet, "--enable-supernode-auth"),
        *("--database", str(federation.state / "superlink.db"), "--disable-runtime-dependency-installation"),
        *("--isolation", "process", "--superexec-auth-secret-file", str(federation.state / "secrets" / "superlink")),
    )


def start_supernode(federation: Federation, site: Site) -> processes.Process:
    """Start a site's SuperNode."""
    return federation.start(
        f"supernode {site.id}",
        *(_program("flower-supernode"), "--grpc-rere", "--superlink", site.fleet),
        *("--root-certificates", str(federation.certificates.authority)),
        *("--auth-supernode-private-key", str(site.key), "--host", HOST, "--port", str(site.port)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(federation.state / "secrets" / site.id)),
        *("--node-config", f'trainer-socket="{site.socket}"'),
    )


def start_executor(federation: Federation, site: Site | None) -> processes.Process:
    """Start what runs the apps: of a site, or the coordinator's own for None."""
    name = site.id if site else "superlink"
    address = f"{HOST}:{site.port}" if site else federation.control
    trust = ("--insecure",) if site else ("--root-certificates", str(federation.certificates.authority))
    return federation.start(
        f"superexec {name}",
        *(_program("flower-superexec"), "--runtime-api-address", address, *trust),
        *("--superexec-auth-secret-file", str(federation.state / "secrets" / name)),
    )


def start_trainers(federation: Federation) -> processes.Process:
    """Start every site's trainer from one import of torch; the cores are shared among them."""
    pairs = [part for site in federation.sites for part in (str(site.file), str(site.socket))]
    threads = max(1, (os.cpu_count() or 1) // len(federation.sites))
    command = (sys.executable, "-m", "scripts.engine.trainers", str(federation.logs), *pairs)
    return federation.start("trainers", *command, threads=threads)


def start_trainer(federation: Federation, site: Site) -> processes.Process:
    """Start one site's trainer in a process of its own, as a hospital does."""
    command = (sys.executable, "-m", "client_app.trainer", str(site.file), "--socket", str(site.socket))
    return federation.start(f"trainer {site.id}", *command, threads=1)


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _serves(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True

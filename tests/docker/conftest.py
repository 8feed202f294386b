"""One small federation in containers for all tests of this folder; hospital B's patients are canaries."""

import os
import socket
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docker import canaries
from tests.docker.engine import Federation, command
from tests.docker.wire import recorded

WIRES = ("b-fleet", "b-node", "admin")


@dataclass(frozen=True)
class Finished:
    """The federation after its study.

    Attributes:
        federation: Still up.
        passed: Network to the frames that passed it until the study had its verdict.
        report: What its page showed then.
    """

    federation: Federation
    passed: dict[str, bytes]
    report: str


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """Build, plant, run; all of it is gone afterwards, volumes too."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    federation = Federation(f"fedfm-test-{os.getpid()}", port)
    federation.compose("build")
    try:
        federation.compose("run", "--rm", "-T", "demo-data")
        plant(federation, tmp_path_factory.mktemp("planted"))
        federation.compose("up", "--no-start")
        with recorded(federation, WIRES) as passed:
            federation.compose("up", "--wait")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
            report = page.read().decode()
        yield Finished(federation, {name: bytes(frames) for name, frames in passed.items()}, report)
    finally:
        federation.compose("down", "--volumes", "--timeout", "2")


@pytest.fixture(scope="session")
def federation(finished: Finished) -> Federation:
    """The federation after its study."""
    return finished.federation


def plant(federation: Federation, folder: Path) -> None:
    """Replace hospital B's patients and site file."""
    cohort = in_data(federation, "cat /data/cohort.csv")
    site = in_data(federation, "cat /etc/fedfm/site.yaml")
    put(federation, folder, "data", canaries.FILE, canaries.written(canaries.planted(cohort)))
    put(federation, folder, "config", "site.yaml", canaries.site_file(site))
    in_data(federation, "rm /data/cohort.csv")


def in_data(federation: Federation, script: str, *more: str) -> str:
    """Do a shell script as hospital B's trainer, with its data and configuration writable."""
    mounts = ("-v", f"{federation.volume('b-data')}:/data", "-v", f"{federation.volume('b-config')}:/etc/fedfm")
    image = f"fedfm/demo:{federation.version}"
    start = ("docker", "run", "--rm", "--network=none", "--user=10001:10000", *mounts, *more, image)
    return command(*start, "sh", "-ec", script).stdout


def put(federation: Federation, folder: Path, volume: str, name: str, text: str) -> None:
    """Write a file into hospital B's data or configuration."""
    folder.chmod(0o755)
    (folder / name).write_text(text)
    (folder / name).chmod(0o644)
    target = {"data": "/data", "config": "/etc/fedfm"}[volume]
    in_data(federation, f"cp /from/{name} {target}/", "-v", f"{folder}:/from:ro")

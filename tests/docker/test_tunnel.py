"""The walk of docs/how-to/mutual-tls.md, with the image ``tunnel`` and both compose files; no study is run.

Images ``fedfm/<target>:$FEDFM_VERSION`` are there: superlink, supernode and trainer. The tunnel's is built here.
"""

import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from server_app.demo_data import make_demo_data
from tests.docker.test_joining import (
    COMPOSE_FILES,
    VERSION,
    Folder,
    finished,
    free_port,
    gateway,
    mounted,
    once,
    setting,
    told,
    until,
)

pytestmark = pytest.mark.docker

NAME, SITE = "fl.example.org", "hospital-a"
TO_SUPERLINK = "import socket; socket.create_connection(('{host}', {port}), 3)"


def build() -> None:
    """Make the image, which has the layers of the SuperNode's."""
    network, base = os.environ.get("FEDFM_BUILD_NETWORK", "host"), os.environ.get("FEDFM_BASE", "")
    words = ("--network", network, "--target", "tunnel", "--tag", f"fedfm/tunnel:{VERSION}")
    root = COMPOSE_FILES.parent
    told(
        "docker",
        "build",
        *words,
        *(("--build-arg", f"BASE={base}") if base else ()),
        "-f",
        "docker/Dockerfile",
        ".",
        cwd=root,
    )


def with_tunnel(folder: Folder, side: str) -> Folder:
    """Put the second compose file in."""
    shutil.copy(COMPOSE_FILES / f"mutual-tls.{side}.compose.yaml", folder.path)
    return folder


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Folder, Folder]]:
    """A coordinator that is up, and a hospital that has made its tunnel and is not admitted; all of it is gone then."""
    build()
    root, project = tmp_path_factory.mktemp("tunnel"), f"fedfm-tunnel-{os.getpid()}"
    root.chmod(0o755)
    once("superlink", "fedfm-study", "init", "/join/coordinator", NAME, f"--port={free_port()}", mounts=mounted(root))
    centre = finished(root / "coordinator", "coordinator.compose.yaml", project, FEDFM_PAGE_PORT=str(free_port()))
    once("superlink", "fedfm-study", "tunnel", "/join/coordinator", mounts=mounted(root))
    hospital = made_hospital(root, f"{project}-{SITE}")
    at = f"{gateway()}:{setting(centre.path, 'FEDFM_PORT')}"
    peer = "/join/coordinator/tunnel/tunnel.crt"
    once("supernode", "fedfm-site", "tunnel", f"/join/{SITE}", "--peer", peer, "--at", at, mounts=mounted(root))
    both = with_tunnel(centre, "coordinator"), with_tunnel(hospital, "site")
    try:
        centre.compose("up", "-d", "--wait", "superlink", "tunnel")
        yield both
    finally:
        for each in reversed(both):
            each.compose("--profile", "*", "down", "--volumes", "--timeout", "2", check=False)


def made_hospital(root: Path, project: str) -> Folder:
    data = make_demo_data(root / "data", sites=1, patients=60)[0].parent
    options = {
        "--table": "/data/cohort.csv",
        "--data-folder": str(data),
        "--coordinator": f"{NAME}:9092",
        "--authority": "/join/coordinator/certificates/ca.crt",
        "--label-map": "0=recovered,1=deteriorated",
    }
    words = [part for pair in options.items() for part in pair]
    once("trainer", "fedfm-site", "init", f"/join/{SITE}", *words, "--yes", mounts={**mounted(root), data: "/data:ro"})
    return finished(root / SITE, "site.compose.yaml", project)


def doctor(hospital: Folder) -> set[str]:
    """Codes of what the hospital's doctor finds on the way to the coordinator."""
    words = ("fedfm-site", "doctor", "/etc/fedfm/site.yaml", "--json", "--group=keys", "--group=network")
    said = hospital.compose("run", "--rm", "-T", "doctor-network", *words, "--group=coordinator", check=False)
    examined = json.loads(said[said.index("{") : said.rindex("}") + 1])
    return {finding["code"] for finding in examined["findings"] if finding["status"] == "fail"}


def facts(folder: Folder, service: str) -> dict[str, object]:
    container = folder.compose("ps", "-q", service).strip()
    found: list[dict[str, object]] = json.loads(told("docker", "inspect", container))
    return found[0]


def test_a_hospital_joins_through_the_tunnel_and_is_put_out(sides: tuple[Folder, Folder]) -> None:
    centre, hospital = sides
    assert doctor(hospital) == {"SITE-E236"}
    shutil.copy(hospital.path / "site.pub", centre.path / "hospitals" / f"{SITE}.pub")
    assert "let in until" in centre.admin("fedfm-study", "admit", f"/hospitals/{SITE}.pub", "--site", SITE)
    until(lambda: f"admitted: {SITE}" in centre.compose("logs", "tunnel"), seconds=20)
    assert doctor(hospital) == set()
    hospital.compose("up", "-d", "--wait", "supernode", "tunnel")
    until(lambda: states(centre) == {SITE: "online"})
    no_way_but_the_tunnel(centre, hospital)
    no_power(centre)
    no_power(hospital)
    assert "closed to hospital-a" in centre.admin("fedfm-study", "revoke", SITE, "--yes")
    until(lambda: f"ended {SITE}" in centre.compose("logs", "tunnel"), seconds=20)
    until(lambda: "SITE-E236" in hospital.compose("logs", "tunnel"), seconds=60)
    assert doctor(hospital) == {"SITE-E236"}


def states(centre: Folder) -> dict[str, str]:
    said = json.loads(centre.admin("fedfm-study", "sites", "--json"))
    return {each["site"]: each["state"] for each in said["sites"]}


def no_way_but_the_tunnel(centre: Folder, hospital: Folder) -> None:
    """The SuperLink has no port; the SuperNode finds the tunnel under the coordinator's name, and nothing outside."""
    of_superlink = facts(centre, "superlink")["HostConfig"]
    assert isinstance(of_superlink, dict)
    assert not of_superlink["PortBindings"]
    port = setting(centre.path, "FEDFM_PORT")
    inside = ("exec", "-T", "supernode", "python", "-c")
    hospital.compose(*inside, TO_SUPERLINK.format(host=NAME, port=9092))
    said = hospital.compose(*inside, TO_SUPERLINK.format(host=gateway(), port=port), check=False)
    assert "Error" in said, "the SuperNode has another way out"
    with socket.create_connection((gateway(), int(port)), timeout=5):
        pass  # the same address from this machine: so it is the network that keeps the SuperNode


def no_power(folder: Folder) -> None:
    found = facts(folder, "tunnel")
    host, config = found["HostConfig"], found["Config"]
    assert isinstance(host, dict)
    assert isinstance(config, dict)
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] > 0
    assert config["User"] == "tunnel"
    status = folder.compose("exec", "-T", "tunnel", "cat", "/proc/1/status")
    assert "CapEff:\t0000000000000000" in status
    uids = next(line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
    assert set(uids) == {"10006"}

"""The walk of docs/how-to/join-as-a-hospital.md and run-a-coordinator.md, in the containers that they start.

Images ``fedfm/<target>:$FEDFM_VERSION`` are there already (0.1.0 where the variable is not set).
"""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from server_app.demo_data import make_demo_data

pytestmark = pytest.mark.docker

VERSION = os.environ.get("FEDFM_VERSION", "") or "0.1.0"
COMPOSE_FILES = Path(__file__).parents[2] / "docker"
HOSPITALS = ("hospital-a", "hospital-b")
STUDY = ("experiment=demo", "model=tiny", "adapter=head", "explainability=none", "rounds=1")


@dataclass(frozen=True)
class Folder:
    """A folder with an ``.env`` and a compose file, as a coordinator or a hospital has one."""

    path: Path

    def compose(self, *arguments: str, check: bool = True) -> str:
        """What ``docker compose`` says in this folder."""
        return told("docker", "compose", *arguments, cwd=self.path, check=check)

    def admin(self, *arguments: str) -> str:
        """What a command of the coordinator's people says."""
        return self.compose("run", "--rm", "-T", "admin", *arguments)


def told(*command: str, cwd: Path | None = None, check: bool = True) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0 or not check, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout if check else done.stdout + done.stderr


def once(target: str, *command: str, mounts: dict[Path, str]) -> str:
    """Run a command as root in an image without a network, as the pages say."""
    volumes = [part for source, where in mounts.items() for part in ("-v", f"{source}:{where}")]
    return told("docker", "run", "--rm", "--user=0", "--network=none", *volumes, f"fedfm/{target}:{VERSION}", *command)


def gateway() -> str:
    """The address at which containers find this machine."""
    route = "print(next(l.split()[2] for l in open('/proc/net/route') if l.split()[1] == '00000000'))"
    word = told("docker", "run", "--rm", f"fedfm/superlink:{VERSION}", "python", "-c", route).strip()
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(word)))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def until(done: Callable[[], object], *, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(1)


def make_coordinator(folder: Path, project: str) -> Folder:
    once(
        "superlink",
        "fedfm-study",
        "init",
        "/join/coordinator",
        gateway(),
        f"--port={free_port()}",
        mounts=mounted(folder),
    )
    return finished(folder / "coordinator", "coordinator.compose.yaml", project, FEDFM_PAGE_PORT=str(free_port()))


def make_hospital(folder: Path, name: str, project: str) -> Folder:
    """Join as ``name``, with the demo's patients; the address is that of the coordinator in ``folder``."""
    data = make_demo_data(folder / "data", sites=2, patients=200)[HOSPITALS.index(name)].parent
    port = setting(folder / "coordinator", "FEDFM_PORT")
    options = {
        "--table": "/data/cohort.csv",
        "--data-folder": str(data),
        "--coordinator": f"{gateway()}:{port}",
        "--authority": "/join/coordinator/certificates/ca.crt",
        "--label-map": "0=recovered,1=deteriorated",
    }
    words = [part for pair in options.items() for part in pair]
    mounts = {**mounted(folder), data: "/data:ro"}
    said = once("trainer", "fedfm-site", "init", f"/join/{name}", *words, "--yes", mounts=mounts)
    assert "SHA256:" in said
    return finished(folder / name, "site.compose.yaml", f"{project}-{name}")


def mounted(folder: Path) -> dict[Path, str]:
    return {folder: "/join"}


def finished(path: Path, compose_file: str, project: str, **more: str) -> Folder:
    """Put the compose file in; names and ports are those of this test, so that it meets no other federation."""
    shutil.copy(COMPOSE_FILES / compose_file, path)
    change(path / ".env", {"COMPOSE_PROJECT_NAME": project, "FEDFM_VERSION": VERSION, **more})
    return Folder(path)


def setting(folder: Path, name: str) -> str:
    return dict(line.split("=", 1) for line in (folder / ".env").read_text().splitlines() if "=" in line)[name]


def change(path: Path, settings: dict[str, str]) -> None:
    text = path.read_text()
    for name, value in settings.items():
        text, count = re.subn(rf"(?m)^{name}(=|: ).*$", rf"{name}\g<1>{value}", text)
        assert count == 1, name
    path.write_text(text)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Folder]]:
    """A coordinator and two hospitals, none of them started yet; whatever was started is gone afterwards."""
    folder, project = tmp_path_factory.mktemp("federation"), f"fedfm-joining-test-{os.getpid()}"
    made = {"coordinator": make_coordinator(folder, project)}
    try:
        for name in HOSPITALS:
            made[name] = make_hospital(folder, name, project)
        yield made
    finally:
        for each in made.values():
            each.compose("--profile=*", "down", "--volumes", "--timeout=5", check=False)


def services(folder: Folder) -> dict[str, Any]:
    found = json.loads(folder.compose("--profile=*", "config", "--format=json"))
    return dict(found["services"])


def targets(service: dict[str, Any]) -> dict[str, bool]:
    """Where something is mounted, and whether it is read-only."""
    return {each["target"]: each.get("read_only", False) for each in service["volumes"]}


@pytest.mark.parametrize("name", ["coordinator", "hospital-a"])
def test_every_container_is_hardened(folders: dict[str, Folder], name: str) -> None:
    folders[name].compose("config", "-q")
    for each, service in services(folders[name]).items():
        assert service["read_only"] is True, each
        assert service["cap_drop"] == ["ALL"], each
        assert service["security_opt"] == ["no-new-privileges:true"], each
        assert service["pids_limit"] <= 512, each
        assert int(service["mem_limit"]) > 0, each
        assert not {"privileged", "cap_add"} & set(service), each
        assert not any("docker.sock" in each for each in targets(service)), each
        lasting = "profiles" not in service or service["profiles"] in (["cpu"], ["gpu"])
        assert ("healthcheck" in service and service["restart"] == "unless-stopped") == lasting, each


def test_each_part_of_a_hospital_sees_what_it_needs_and_no_more(folders: dict[str, Folder]) -> None:
    found = services(folders["hospital-a"])
    with_network = {name: set(service.get("networks", {})) for name, service in found.items()}
    assert {name for name, networks in with_network.items() if "out" in networks} == {"supernode", "doctor-network"}
    assert with_network["clientapp"] == {"inside"}
    assert {name for name, each in found.items() if each.get("network_mode") == "none"} == {
        *("trainer", "trainer-gpu", "doctor", "doctor-gpu"),
    }
    seen = {name: targets(service) for name, service in found.items()}
    patients = {name for name, where in seen.items() if "/data" in where}
    assert patients == {"trainer", "trainer-gpu", "doctor", "doctor-gpu"}
    assert all(seen[name]["/data"] for name in patients), "read-only"
    assert {name for name, where in seen.items() if "/run/secrets/node.key" in where} == {"supernode", "doctor-network"}
    assert {name for name, where in seen.items() if "/var/lib/fedfm" in where} == patients
    assert not any("ports" in service for service in found.values()), "nothing listens to the outside"
    bound = [each for service in found.values() for each in service["volumes"] if each["type"] == "bind"]
    assert not any(each["bind"].get("create_host_path") for each in bound), "a missing file is no empty folder"
    for name in ("trainer-gpu", "doctor-gpu"):
        (gpu,) = found[name]["deploy"]["resources"]["reservations"]["devices"]
        assert gpu["capabilities"] == ["gpu"]
    assert set(folders["hospital-a"].compose("config", "--services").split()) == {"supernode", "clientapp", "trainer"}


def test_only_the_fleet_port_of_a_coordinator_is_published(folders: dict[str, Folder]) -> None:
    found = services(folders["coordinator"])
    ports = {
        (name, port["target"], port.get("host_ip", ""))
        for name, service in found.items()
        for port in service.get("ports", [])
    }
    assert ports == {("superlink", 9092, ""), ("page", 8080, "127.0.0.1")}
    keys = {name for name, service in found.items() if "/certificates" in targets(service)}
    assert keys == {"superlink", "doctor"}


def test_what_is_missing_is_said(folders: dict[str, Folder], tmp_path: Path) -> None:
    copy = Folder(Path(shutil.copytree(folders["hospital-b"].path, tmp_path / "site")))
    change(copy.path / ".env", {"FEDFM_COORDINATOR": ""})
    assert "host:port of the coordinator is FEDFM_COORDINATOR" in copy.compose("config", "-q", check=False)
    change(copy.path / ".env", {"FEDFM_COORDINATOR": "fl.example.org:9092", "COMPOSE_PROJECT_NAME": "fedfm-joining-x"})
    (copy.path / "node.key").unlink()
    try:
        assert "bind source path does not exist" in copy.compose("up", "--no-deps", "supernode", check=False)
        assert not (copy.path / "node.key").exists()
    finally:
        copy.compose("--profile=*", "down", "--volumes", check=False)


def state_of(coordinator: Folder) -> dict[str, str]:
    found = json.loads(coordinator.admin("fedfm-study", "sites", "--json"))["sites"]
    return {each["site"]: each["state"] for each in found}


def run_study(coordinator: Folder) -> str:
    arguments = ("run", "--rm", "-T", "admin", "fedfm-study", "run", "--app=/opt/app/fedfm", *STUDY)
    return coordinator.compose(*arguments, check=False)


@pytest.mark.timeout(900)
def test_two_hospitals_join_and_a_study_completes_when_they_have_agreed(folders: dict[str, Folder]) -> None:
    coordinator = folders["coordinator"]
    coordinator.compose("up", "-d", "--wait")
    for name in HOSPITALS:
        site = folders[name]
        change(site.path / "policy.yaml", {"allow_random_weights": "true"})  # the tiny model has no weights
        shutil.copy(site.path / "site.pub", coordinator.path / "hospitals" / f"{name}.pub")
        said = coordinator.admin("fedfm-study", "admit", f"/hospitals/{name}.pub", "--site", name)
        assert f"{name} may take part" in said
        site.compose("up", "-d", "--wait")
    until(lambda: state_of(coordinator) == dict.fromkeys(HOSPITALS, "online"))

    began = time.monotonic()
    refused = run_study(coordinator)
    assert time.monotonic() - began < 100, "nobody waits start_minutes, which are two, for sites that have refused"
    assert "not completed" in refused
    assert "0 whose answer can be used; hospital-a: SITE-E220, hospital-b: SITE-E220" in refused
    assert "Traceback" not in refused
    for name in HOSPITALS:
        trainer = ("exec", "-T", "trainer", "fedfm-site", "approve", "/etc/fedfm/site.yaml")
        (study,) = set(re.findall(r"\b[0-9a-f]{12}\b", folders[name].compose(*trainer)))
        said = folders[name].compose(*trainer, study, "--yes", name, "--by", "Data protection")
        assert "approved by Data protection" in said
    completed = run_study(coordinator)  # the very study that was approved
    assert "Completed: 2 of 2 hospitals contributed" in completed
    assert "Privacy: ON (patient-level)" in completed

    coordinator.admin("fedfm-study", "revoke", "hospital-b", "--yes")
    until(lambda: "2004" in folders["hospital-b"].compose("logs", "supernode"))
    assert state_of(coordinator) == {"hospital-a": "online", "hospital-b": "revoked"}

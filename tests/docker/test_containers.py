"""What stands between a container and everything it does not need; each probed from inside."""

import ipaddress
import json
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.docker.conftest import Finished
from tests.docker.engine import HEAVY, LIGHT, ONCE, SITES, STEADY, Federation, command

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

CONNECT = """
import socket
from concurrent.futures import ThreadPoolExecutor

def reached(target):
    try:
        socket.create_connection(target, timeout=2).close()
    except OSError:
        return []
    return ["reached", *map(str, target)]

with ThreadPoolExecutor(16) as at_once:
    print(*(" ".join(found) for found in at_once.map(reached, {targets!r}) if found), sep="\\n", end="")
"""
STATUS = """
import json
print(json.dumps(dict(line.rstrip().split(":\\t", 1) for line in open("/proc/1/status") if ":\\t" in line)))
"""
WRITE = """
import errno
try:
    open("/opt/fedfm/x", "w")
except OSError as error:
    print(errno.errorcode[error.errno])
"""
KEPT = """
import hashlib, pathlib
for path in sorted(pathlib.Path("/var/lib/fedfm").glob("*.jsonl")):
    print(path.name, hashlib.sha256(path.read_bytes()).hexdigest())
"""
MOUNTS = {
    "supernode-a": {"/authority", "/run/secrets/node", "/run/secrets/superexec"},
    "clientapp-a": {"/run/fedfm", "/run/secrets/superexec"},
    "trainer-a": {"/data", "/etc/fedfm", "/run/fedfm", "/var/lib/fedfm", "/weights"},
    "superlink": {"/certificates", "/run/secrets/superexec", "/var/lib/fedfm"},
    "serverapp": {"/authority", "/public", "/results", "/run/secrets/superexec", "/var/lib/fedfm", "/weights"},
    "study": {"/authority"},
    "page": {"/results"},
}
WRITABLE = {"/var/lib/fedfm", "/results"}


def reached(federation: Federation, service: str, targets: list[tuple[str, int]]) -> str:
    return federation.inside(service, CONNECT.format(targets=targets))


def test_the_federation_ends_with_a_verdict_and_its_page(finished: Finished) -> None:
    assert finished.federation.facts("study")["State"]["ExitCode"] == 0
    assert "4 of 4 hospitals contributed" in finished.report
    address = f"http://127.0.0.1:{finished.federation.page}"
    with urllib.request.urlopen(f"{address}/", timeout=10) as page:
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{address}/latest/", timeout=10)


def test_the_page_is_the_only_port_and_on_loopback_only(federation: Federation) -> None:
    bindings = {service: federation.facts(service)["HostConfig"]["PortBindings"] for service in STEADY}
    assert {service for service, ports in bindings.items() if ports} == {"page"}
    assert bindings["page"] == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(federation.page)}]}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; tells this machine's own address
        own = probe.getsockname()[0]
    assert not ipaddress.ip_address(own).is_loopback
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((own, federation.page), timeout=3)


@pytest.mark.parametrize("service", ["supernode-a", "clientapp-a"])
def test_a_hospital_reaches_no_other(federation: Federation, service: str) -> None:
    others = [f"{kind}-{site}" for site in SITES[1:] for kind in ("supernode", "clientapp")]
    targets = [(address, 9094) for other in others for address in federation.addresses(other)]
    assert len(targets) == 9
    assert reached(federation, service, targets) == ""
    own = [(address, 9094) for address in federation.addresses("supernode-a")]
    assert "reached" in reached(federation, "clientapp-a", own), "the probe does see what can be reached"


def test_only_the_admin_network_reaches_the_control_port(federation: Federation) -> None:
    control = [(address, 8000) for address in federation.addresses("superlink")]
    assert len(control) == 5
    assert reached(federation, "serverapp", control).count("reached") == 1
    for service in ("supernode-a", "clientapp-a", "page"):
        assert reached(federation, service, control) == ""
    fleet = [(address, 9092) for address in federation.addresses("superlink")]
    assert reached(federation, "supernode-a", fleet).count("reached") == 1


@pytest.mark.parametrize("service", ["clientapp-a", "supernode-a", "superlink", "serverapp"])
def test_nothing_inside_reaches_the_world(federation: Federation, service: str) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listening:  # this machine, as seen through every bridge
        port = listening.getsockname()[1]
        networks = federation.facts(service)["NetworkSettings"]["Networks"].values()
        world = [("1.1.1.1", 53), ("9.9.9.9", 443)]
        assert reached(federation, service, world) == ""
        assert len(networks) > 0
        assert reached(federation, "page", [(gateway_of(federation), port)]) != "", "the probe does see this machine"


ASK = """
import secrets, socket
def asked(name):
    parts = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as question:
        question.settimeout(5)
        question.sendto(secrets.token_bytes(2) + bytes([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]) + parts + bytes([0, 0, 1, 0, 1]),
                        ("127.0.0.11", 53))
        try:
            answer = question.recv(4096)
        except OSError:
            return "nothing"
    return {{0: "found", 2: "failed", 3: "known not to be", 5: "refused"}}.get(answer[3] & 15, "other")
print(asked({name!r}), asked(f"{{secrets.token_hex(8)}}.example.com"), sep=",")
"""


@pytest.mark.parametrize(
    ("service", "name"),
    [("clientapp-a", "supernode"), ("supernode-a", "superlink"), ("superlink", "serverapp"), ("serverapp", "control")],
)
def test_the_engines_resolver_asks_nobody_outside(federation: Federation, service: str, name: str) -> None:
    """A name can carry a message, so one that is not of this network must end at the engine."""
    own, foreign = federation.inside(service, ASK.format(name=name)).strip().split(",")
    assert own == "found", "the probe does hear the resolver"
    assert foreign in ("failed", "refused", "nothing")
    assert federation.facts(service)["HostConfig"]["Dns"] == ["127.0.0.1"]


def gateway_of(federation: Federation) -> str:
    (network,) = federation.facts("page")["NetworkSettings"]["Networks"].values()
    return str(network["Gateway"])


@pytest.mark.parametrize("site", SITES)
def test_a_trainer_has_no_network(federation: Federation, site: str) -> None:
    code = "import os; print(*os.listdir('/sys/class/net'))"
    assert federation.inside(f"trainer-{site}", code).split() == ["lo"]
    targets = [(address, 9094) for address in federation.addresses(f"supernode-{site}")]
    assert reached(federation, f"trainer-{site}", [*targets, ("1.1.1.1", 53)]) == ""


@pytest.mark.parametrize("service", MOUNTS)
def test_a_container_has_what_it_needs_and_nothing_else(federation: Federation, service: str) -> None:
    mounts = {mount["Destination"]: mount["RW"] for mount in federation.facts(service)["Mounts"]}
    assert set(mounts) == MOUNTS[service]
    writable = {path for path, is_writable in mounts.items() if is_writable}
    assert writable <= WRITABLE | ({"/run/fedfm"} if service == "trainer-a" else set())


@pytest.mark.parametrize(
    ("service", "paths"),
    [
        ("clientapp-a", ["/data", "/var/lib/fedfm", "/etc/fedfm", "/run/secrets/node", "/weights"]),
        ("supernode-a", ["/data", "/var/lib/fedfm", "/etc/fedfm", "/run/fedfm", "/weights"]),
    ],
)
def test_who_has_no_patients_finds_none(federation: Federation, service: str, paths: list[str]) -> None:
    code = f"import os; print([path for path in {paths!r} if os.path.exists(path)])"
    assert federation.inside(service, code).strip() == "[]"
    assert federation.inside("trainer-a", code).strip() != "[]"


@pytest.mark.parametrize("service", STEADY)
def test_a_container_has_no_power(federation: Federation, service: str) -> None:
    status = json.loads(federation.inside(service, STATUS))
    assert {name: int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == dict.fromkeys(
        ("CapEff", "CapPrm", "CapBnd", "CapAmb"), 0
    )
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["Uid"].split()[0] != "0"
    assert status["Gid"].split()[0] == "10000"
    assert federation.inside(service, WRITE).strip() == "EROFS"


@pytest.mark.parametrize("service", [*STEADY, *ONCE])
def test_a_container_is_confined_and_limited(federation: Federation, service: str) -> None:
    facts = federation.facts(service)
    host, user = facts["HostConfig"], facts["Config"]["User"]
    assert user not in ("", "0", "root")
    assert host["ReadonlyRootfs"]
    assert not host["Privileged"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert 0 < host["Memory"] <= 3 * 2**30
    assert 0 < host["PidsLimit"] <= 256
    assert not any(mount["Type"] == "bind" for mount in facts["Mounts"])
    assert (host["RestartPolicy"]["Name"] == "unless-stopped") == (service in STEADY)


@pytest.mark.parametrize("service", [*LIGHT, *HEAVY])
def test_an_image_holds_what_its_bill_of_materials_lists(federation: Federation, service: str) -> None:
    code = """
import importlib.metadata, json
parts = json.load(open("/usr/share/doc/fedfm/sbom.cdx.json"))["components"]
names = [part["name"] for part in parts], [found.name for found in importlib.metadata.distributions()]
print(json.dumps([sorted({name.lower().replace("_", "-") for name in some}) for some in names]))
"""
    listed, there = json.loads(federation.inside(service, code))
    assert listed == there
    assert {"flwr", "fedfm", "grpcio"} <= set(there)
    assert ({"torch", "pandas", "opacus"} <= set(there)) == (service in HEAVY)
    assert not {"pip", "uv"} & set(there)


@pytest.mark.parametrize("service", [*LIGHT, *HEAVY])
def test_an_image_has_nothing_that_builds_or_installs(federation: Federation, service: str) -> None:
    code = """
import glob, shutil, subprocess
print([name for name in ("gcc", "cc", "clang", "ld", "make", "pip", "pip3", "uv") if shutil.which(name)])
found = {"python", *glob.glob("/usr/bin/python3"), *glob.glob("/usr/local/bin/python3")}
print([one for one in found if not subprocess.run([one, "-m", "pip", "--version"], capture_output=True).returncode])
"""
    assert federation.inside(service, code).split("\n")[:2] == ["[]", "[]"]


@pytest.mark.parametrize("service", LIGHT)
def test_a_light_image_imports_no_torch_and_runs_both_command_lines(federation: Federation, service: str) -> None:
    code = """
import importlib.util, subprocess, sys
import client_app.app, client_app.cli, fedfm.wire_records, server_app.cli
print([name for name in ("torch", "pandas", "opacus") if importlib.util.find_spec(name) or name in sys.modules])
"""
    assert federation.inside(service, code).strip() == "[]"


def test_a_trainer_that_is_started_again_keeps_its_ledger(federation: Federation) -> None:
    before = federation.inside("trainer-c", KEPT)
    assert "ledger" in before
    assert "audit" in before
    command("docker", "restart", "--time", "5", federation.container("trainer-c"))
    assert federation.inside("trainer-c", KEPT) == before
    report = "from client_app.cli import app; app(['budget', '/etc/fedfm/site.yaml', '--json'])"
    assert json.loads(federation.inside("trainer-c", report))["site"] == "hospital-c"


def test_a_gpu_that_is_not_there_is_missed_loudly(federation: Federation) -> None:
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has a GPU")
    done = federation.compose("--profile", "gpu", "run", "--rm", "-T", "gpu", check=False)
    assert done.returncode != 0
    assert "could not select device driver" in done.stderr

"""A study that asks for too much is refused by the hospitals' containers, costs nothing and ends nothing else."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.conftest import in_data, put
from tests.docker.engine import SMALL, Federation, command

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

LEDGERS = """
import hashlib, pathlib
for path in sorted(pathlib.Path("/var/lib/fedfm").glob("ledger-*.jsonl")):
    print(path.name, hashlib.sha256(path.read_bytes()).hexdigest())
"""
LISTENS = """
import socket, time
end = time.monotonic() + 60
while True:
    with socket.socket(socket.AF_UNIX) as probe:
        if not probe.connect_ex("/run/fedfm/trainer.sock"):
            break
    assert time.monotonic() < end
    time.sleep(0.2)
"""
SITES = "sites=[hospital-c,hospital-d]"


def ledgers(federation: Federation) -> list[str]:
    found = [federation.inside(f"trainer-{x}", LEDGERS) for x in "bcd"]
    assert all("ledger-hospital-" in each for each in found)
    return found


def online(federation: Federation) -> set[str]:
    words = ("run", "--rm", "-T", "--no-deps", "study", "fedfm-study", "sites", "--json")
    told = federation.compose(*words, "--superlink=control:8000", "--authority=/authority/ca.crt").stdout
    return {each["site"] for each in json.loads(told)["sites"] if each["state"] == "online"}


def refused(federation: Federation, *asked: str, named: str) -> None:
    """Ask, and see that each site is named with its code, without a trace, and nothing is spent."""
    before = ledgers(federation)
    done = federation.ask(*SMALL.split(), *asked)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said[-3000:]
    assert "ROUND-E020 too few sites at the start" in said, said[-3000:]
    assert named in said, said[-3000:]
    assert "Traceback" not in said, said[-3000:]
    assert ledgers(federation) == before
    assert {"hospital-a", "hospital-b", "hospital-c", "hospital-d"} <= online(federation)


@pytest.mark.parametrize(
    ("beyond", "code"), [("privacy.epsilon=50", "SITE-E101"), ("privacy.max_grad_norm=100", "SITE-E111")]
)
def test_a_study_beyond_a_cap_costs_nothing(federation: Federation, beyond: str, code: str) -> None:
    refused(federation, SITES, beyond, named=f"hospital-c: {code}, hospital-d: {code}")


@pytest.fixture
def without_the_model(federation: Federation, tmp_path: Path) -> Iterator[None]:
    """Hospital B knows another hash than the study's."""
    site = in_data(federation, "cat /etc/fedfm/site.yaml")
    pinned = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert pinned in site
    try:
        started_with(federation, tmp_path, site.replace(pinned, "f" * 64))
        yield
    finally:
        started_with(federation, tmp_path, site)


def started_with(federation: Federation, folder: Path, site: str) -> None:
    put(federation, folder, "config", "site.yaml", site)
    command("docker", "restart", "--time", "5", federation.container("trainer-b"))
    federation.inside("trainer-b", LISTENS)


@pytest.mark.usefixtures("without_the_model")
def test_a_model_that_a_site_does_not_know_costs_nothing_anywhere(federation: Federation) -> None:
    refused(federation, "sites=[hospital-b,hospital-c]", named="hospital-b: SITE-E142")


def test_the_next_study_within_the_caps_runs_at_the_same_sites(federation: Federation) -> None:
    before = ledgers(federation)
    done = federation.ask(*SMALL.split(), SITES, "privacy.epsilon=0.5")
    assert done.returncode == 0, done.stdout[-3000:]
    after = ledgers(federation)
    assert [old != new for old, new in zip(before, after, strict=True)] == [False, True, True]

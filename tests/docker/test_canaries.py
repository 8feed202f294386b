"""Patients that are canaries: nothing of them is outside their trainer, after a run and after errors of many kinds."""

import csv
import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docker import canaries
from tests.docker.conftest import Finished, in_data, put
from tests.docker.engine import ONCE, SMALL, STEADY, Federation, command

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

Rows = list[dict[str, str]]
Spoil = Callable[[Rows], Rows]

SEARCH = """
import os, re, sys
found, read = set(), 0
for root, folders, files in os.walk("/"):
    if root == "/":
        folders[:] = [name for name in folders if name not in ("proc", "sys", "dev", "opt", "usr", "weights")]
    for name in files:
        path = os.path.join(root, name)
        if re.search(rb"ZZPATIENT-\\d{6}", os.fsencode(path)):
            found.add("a file name")
        if not os.path.isfile(path) or not os.access(path, os.R_OK):
            continue
        with open(path, "rb") as file:
            content = file.read()
        read += 1
        if re.search(rb"ZZPATIENT-\\d{6}", content):
            found.add(path)
print(read, *sorted(found))
"""
ELSEWHERE = [service for service in STEADY if not service.startswith("trainer")]


def searched(federation: Federation, service: str) -> tuple[int, list[str]]:
    """Return how many files of a running container were read, and those with a canary."""
    read, *found = federation.inside(service, SEARCH).split()
    return int(read), found


def changed(federation: Federation, service: str) -> list[str]:
    """Return what is new in a container's own file system, but for the places where something is mounted."""
    mounted = ["/usr/sbin/docker-init", *(mount["Destination"] for mount in federation.facts(service)["Mounts"])]
    lines = command("docker", "diff", federation.container(service)).stdout.splitlines()
    return [line for line in lines if not any(place.startswith(line[2:]) for place in mounted)]


def assert_nothing_outside(federation: Federation) -> None:
    """Look into every log but the trainers', and every file that anything but a trainer can read."""
    for service in (*ELSEWHERE, *ONCE):
        said = command("docker", "logs", federation.container(service))
        assert not canaries.CANARY.search((said.stdout + said.stderr).encode()), f"log of {service}"
        assert changed(federation, service) == [], f"files of {service}"
    for service in ELSEWHERE:
        read, found = searched(federation, service)
        assert read > 10
        assert found == [], service


def test_the_search_finds_what_is_there(federation: Federation) -> None:
    _, found = searched(federation, "trainer-b")
    assert {"a", f"/data/{canaries.FILE}", "/etc/fedfm/site.yaml"} <= set(found)


def test_nothing_of_a_patient_is_outside_after_a_run(federation: Federation) -> None:
    assert federation.facts("study")["State"]["ExitCode"] == 0
    for service, path in (("superlink", "/var/lib/fedfm"), ("page", "/results"), ("serverapp", "/var/lib/fedfm")):
        held = command_bytes("docker", "cp", f"{federation.container(service)}:{path}", "-")
        with tarfile.open(fileobj=io.BytesIO(held)) as archive:
            names = archive.getnames()
        assert len(names) > 1, f"{path} of {service} holds something"
        assert not canaries.CANARY.search(held), f"{path} of {service}"
    assert_nothing_outside(federation)


def command_bytes(*words: str) -> bytes:
    return subprocess.run(words, capture_output=True, check=True).stdout


def test_nothing_of_a_patient_has_passed_a_wire(finished: Finished) -> None:
    assert b"hospital-b" in finished.passed["b-node"], "what the executor hands to its SuperNode is readable here"
    for network, frames in finished.passed.items():
        assert len(frames) > 10_000, network
        assert not canaries.CANARY.search(frames), network
    assert b"hospital-b" not in finished.passed["b-fleet"], "TLS"


def bad_label(rows: Rows) -> Rows:
    return [row | {canaries.COLUMNS["outcome"]: "ZZPATIENT-700001"} for row in rows]


def bad_number(rows: Rows) -> Rows:
    return [row | {canaries.COLUMNS["age"]: "ZZPATIENT-700002"} for row in rows]


def no_patient_column(rows: Rows) -> Rows:
    return [
        {("ZZPATIENT-700003" if name == canaries.COLUMNS["mrn"] else name): row[name] for name in row} for row in rows
    ]


def no_rows(rows: Rows) -> Rows:
    return rows[:1]


@pytest.fixture
def cohort(federation: Federation, tmp_path: Path) -> Iterator[str]:
    """Hospital B's table, put back afterwards."""
    text = in_data(federation, f"cat /data/{canaries.FILE}")
    yield text
    put(federation, tmp_path, "data", canaries.FILE, text)


@pytest.mark.parametrize(
    ("spoil", "ends"), [(bad_label, True), (bad_number, False), (no_patient_column, True), (no_rows, True)]
)
def test_nothing_of_a_patient_is_in_an_error(
    federation: Federation, cohort: str, tmp_path: Path, spoil: Spoil, ends: bool
) -> None:
    rows = list(csv.DictReader(io.StringIO(cohort)))
    put(federation, tmp_path, "data", canaries.FILE, canaries.written(spoil(rows)))
    command("docker", "restart", "--time", "5", federation.container("trainer-b"))
    done = federation.ask(*SMALL.split(), "sites=[hospital-a,hospital-b]")
    said = done.stdout + done.stderr
    assert not canaries.CANARY.search(said.encode()), said[-3000:]
    assert (done.returncode == 1) == ends, said[-3000:]
    assert "SITE-E" in said, said[-3000:]


def test_nothing_of_a_patient_is_outside_after_all_these_errors(federation: Federation) -> None:
    assert_nothing_outside(federation)

"""What the doctor says of rights, disk, machine, budget and software: each planted fault is found by its code."""

import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from client_app.audit_log import FILE, AuditLog
from client_app.doctor import compute, config, disk, places, software
from client_app.doctor.leaks import area
from client_app.ledger import Charge, Ledger, Limits
from fedfm.privacy import Release
from tests.unit.client_app.ward import approve, doctor, examined, make, problems, study

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def site_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(places, "_CONTAINER", ())
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda1 / ext4 rw 0 0\n")
    monkeypatch.setattr(places, "_MOUNTS", mounts)
    return make(tmp_path / "site")


def spend(site_file: Path, noise: float) -> None:
    charge = Charge("run-1", "demo", 1, "train", "training", Release(noise, 1.0, 1))
    Ledger(site_file.parent / "state", "hospital-a").charge(charge, Limits(100.0, 100.0, 1e-3))


def test_a_site_file_that_anybody_may_change(site_file: Path) -> None:
    site_file.chmod(0o602)
    assert "site.yaml" in problems(examined(site_file, "config"))["SITE-E040"]


def test_a_folder_in_which_anybody_may_put_another_policy(site_file: Path) -> None:
    site_file.parent.chmod(0o702)
    assert "site.yaml" in problems(examined(site_file, "config"))["SITE-E040"]
    site_file.parent.chmod(0o1702)  # sticky: only the owner may replace
    assert "SITE-E040" not in problems(examined(site_file, "config"))


def test_a_ledger_that_anybody_may_change(site_file: Path) -> None:
    spend(site_file, 4.0)
    ledger = site_file.parent / "state" / "ledger-hospital-a.jsonl"
    ledger.chmod(0o666)
    assert ledger.name in problems(examined(site_file, "config"))["SITE-E040"]


def test_what_anybody_may_read(site_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, secret = site_file.parent / "state", site_file.with_name("superexec.secret")
    (state / "cache").mkdir(parents=True)
    kept = state / "cache" / "states-1.safetensors"
    for path in (kept, secret, site_file.with_name("cohort.csv")):
        path.touch()
        path.chmod(0o644)
    assert problems(examined(site_file, "config")) == {}  # the folders above are for one user
    monkeypatch.setattr(places, "is_read_by_others", lambda path: bool(path.stat().st_mode & 0o004))
    monkeypatch.setattr(config, "is_read_by_others", places.is_read_by_others)
    findings = examined(site_file, "config")
    assert sorted(one.check for one in findings if one.code == "SITE-E041") == ["kept files", "secrets"]
    assert "SITE-W010" in problems(findings)


@pytest.mark.parametrize(
    ("root", "mode", "warns"),
    [
        ("/srv/cohort", 0o644, True),
        ("/srv/cohort", 0o640, False),
        ("/var/lib/docker/volumes/fedfm-demo_a-data/_data", 0o644, False),
        ("/srv/volumes/_data", 0o644, True),
        ("", 0o644, True),
    ],
)
def test_a_container_warns_of_a_table_in_a_folder_of_the_host_that_everybody_may_read(
    site_file: Path, monkeypatch: pytest.MonkeyPatch, root: str, mode: int, warns: bool
) -> None:
    """A named volume lies below a folder of the engine, which is closed to others."""
    table, mounts = site_file.with_name("cohort.csv"), site_file.with_name("mountinfo")
    table.chmod(mode)
    shown = f"31 25 8:1 {root} {table.parent.resolve()} ro - ext4 /dev/sda1 rw\n" if root else ""
    mounts.write_text(f"25 1 0:40 /volumes/x/_data / rw - overlay overlay rw\n{shown}" if root else "")
    monkeypatch.setattr(places, "_MOUNTINFO", mounts)
    monkeypatch.setattr(config, "is_read_by_others", lambda path: bool(path.stat().st_mode & 0o004))
    monkeypatch.setattr(config, "in_container", lambda: True)
    told = problems([one for one in examined(site_file, "config") if one.check == "patients' file"])
    assert list(told) == (["SITE-W010"] if warns else [])
    if warns:
        assert "any user of the host may read" in told["SITE-W010"]


def test_who_reaches_a_file(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir(mode=0o700)
    file = tmp_path / "inner" / "file"
    file.touch()
    file.chmod(0o644)
    assert not places.is_read_by_others(file)  # the folder above is for one user
    assert places.is_read_by_others(Path("/etc/passwd"))
    assert not places.is_read_by_others(Path("/etc/shadow"))


@pytest.mark.parametrize(
    "text",
    ["# -----BEGIN OPENSSH PRIVATE KEY-----", "display_name: postgres://user:hunter2@db/x"],
)
def test_a_secret_among_the_settings(site_file: Path, text: str) -> None:
    site_file.write_text(site_file.read_text() + text + "\n")
    told = problems(examined(site_file, "config"))
    assert "site.yaml" in told["SITE-W011"]
    assert "hunter2" not in doctor(site_file, "--group", "config").output


def test_a_secret_in_the_environment(site_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hunter2")
    monkeypatch.setenv("KEY_PASSWORD_FILE", str(site_file))  # a path to a secret is how it should be
    result = doctor(site_file, "--group", "config")
    assert "HF_TOKEN" in result.stdout
    assert "KEY_PASSWORD_FILE" not in result.stdout
    assert "hunter2" not in result.stdout


def test_the_policy_says_what_a_person_wrote(site_file: Path) -> None:
    (policy,) = (one.what for one in examined(site_file, "config") if one.check == "policy")
    assert "max_epsilon = 4.0 (written)" in policy
    assert "max_rounds = 200 (default)" in policy


@pytest.mark.parametrize(
    ("kind", "code"), [("tmpfs", "SITE-E042"), ("overlay", "SITE-W040"), ("ext4", ""), ("nfs4", "")]
)
def test_a_state_that_does_not_last(site_file: Path, kind: str, code: str) -> None:
    places._MOUNTS.write_text(f"/dev/sda1 / ext4 rw 0 0\nnone {site_file.parent} {kind} rw 0 0\n")
    assert list(problems(examined(site_file, "disk"))) == ([code] if code else [])


def test_the_nearest_mount_counts_and_the_last_of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_MOUNTS", tmp_path / "mounts")
    blank = tmp_path / "a b"
    blank.mkdir()
    (tmp_path / "mounts").write_text(
        f"x / overlay rw 0 0\ny {str(blank).replace(' ', chr(92) + '040')} xfs rw 0 0\nz {tmp_path} ext3 rw 0 0\n"
        f"z {tmp_path} ext4 rw 0 0\nw {tmp_path}more btrfs rw 0 0\n"
    )
    assert places.file_system(blank / "state") == (str(blank), "xfs")
    assert places.file_system(tmp_path / "other" / "state") == (str(tmp_path), "ext4")
    assert places.file_system(Path("/")) == ("/", "overlay")


def test_a_full_disk(site_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 4 * 10**8))
    assert "0.4 GB free" in problems(examined(site_file, "disk"))["SITE-E043"]


def test_a_state_that_cannot_be_written(site_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: int) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "fsync", fails)
    assert "Read-only file system" in problems(examined(site_file, "disk"))["SITE-E150"]


@pytest.mark.parametrize(("behind", "words"), [(60.0, "60 s behind"), (-60.0, "60 s ahead of")])
def test_the_clock_of_a_file_server(behind: float, words: str) -> None:
    assert words in disk._clock(behind).what
    assert disk._clock(behind / 60).status == "pass"


@pytest.mark.parametrize("damage", [lambda text: text.replace("4.0", "9.0"), lambda text: text[:-20]])
def test_a_damaged_ledger(site_file: Path, damage: Callable[[str], str]) -> None:
    spend(site_file, 4.0)
    ledger = site_file.parent / "state" / "ledger-hospital-a.jsonl"
    ledger.write_text(damage(ledger.read_text()))
    Path(f"{ledger}.next").unlink()
    assert list(problems(examined(site_file, "privacy"))) == ["SITE-E115"]


def test_a_damaged_audit_log(site_file: Path) -> None:
    AuditLog(site_file.parent / "state").entered("train", b"request", run="run-1", round_=1)
    log = site_file.parent / "state" / FILE
    log.write_text(log.read_text().replace("entered", "Entered"))
    assert "SITE-E115" in problems(examined(site_file, "privacy"))


@pytest.mark.parametrize(("noise", "code"), [(4.0, ""), (0.93, "SITE-W060"), (0.5, "SITE-E104"), (0.0, "SITE-E104")])
def test_a_budget_that_is_used_up(site_file: Path, noise: float, code: str) -> None:
    if noise:
        spend(site_file, noise)
    else:
        free = Limits(float("inf"), float("inf"), 1e-3)
        charge = Charge("run-1", "demo", 1, "train", "training", Release(0.0, 1.0, 1))
        Ledger(site_file.parent / "state", "hospital-a").charge(charge, free)
    assert list(problems(examined(site_file, "privacy"))) == ([code] if code else [])


def test_a_study_that_costs_more_than_is_left(site_file: Path) -> None:
    named = study(site_file.parent, "rounds=1", "privacy.epsilon=3")
    approve(site_file, named)
    fits = examined(site_file, "privacy", named=named)
    assert problems(fits) == {}
    assert {one.check for one in fits} >= {"cost, train", "cost, test"}
    spend(site_file, 1.2)
    findings = examined(site_file, "privacy", named=named)
    assert {one.check for one in findings if one.code == "SITE-E104"} == {"cost, train"}


def test_a_study_beyond_the_policy(site_file: Path) -> None:
    told = problems(examined(site_file, "privacy", named=study(site_file.parent, "privacy.epsilon=9")))
    assert list(told) == ["SITE-E101"]


def test_a_study_that_is_none(site_file: Path) -> None:
    assert "SITE-E154" in problems(examined(site_file, "disk", named=site_file.parent / "absent.json"))


def test_threads_and_memory_beyond_the_machine(site_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site_file.write_text(site_file.read_text() + "threads: 9999\nmicro_batch: 512\n")
    named = study(site_file.parent, "rounds=1")
    assert list(problems(examined(site_file, "compute", named=named))) == ["SITE-W031"]
    monkeypatch.setattr(compute, "free_bytes", lambda _: 100)
    told = problems(examined(site_file, "compute", named=named))
    assert "micro_batch: 512" in told["SITE-E131"]


def test_little_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "_SHM", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**20, 0, 2**20))
    assert compute._shared_memory().code == "SITE-W032"
    monkeypatch.setattr(compute, "_SHM", tmp_path / "absent")
    assert compute._shared_memory().status == "skip"


def test_a_gpu_that_torch_cannot_use(site_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'Tesla T4, 535.183.01'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    named = study(site_file.parent, "rounds=1")
    assert "Tesla T4, 535.183.01" in problems(examined(site_file, "compute", named=named))["SITE-W030"]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert problems(examined(site_file, "compute", named=named)) == {}


@pytest.mark.parametrize(
    ("version", "requirement", "fits"),
    [
        ("1.39.0", "flwr<1.40,>=1.39", True),
        ("1.40.0", "flwr<1.40,>=1.39", False),
        ("1.38.9", "flwr<1.40,>=1.39", False),
        ("2.13.1+cu130", "torch<2.14,>=2.13", True),
        ("2.0", "x==2", True),
        ("2.0.1", "x==2", False),
    ],
)
def test_a_release_fits_its_pin(version: str, requirement: str, fits: bool) -> None:
    assert software.is_within(version, requirement) == fits


def test_a_release_that_is_not_pinned(site_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software.importlib.metadata, "requires", lambda _: ["flwr<1.40,>=1.39", "torch<2,>=1"])
    (found,) = software._releases()
    assert (found.code, "torch" in found.what, "flwr" in found.what) == ("SITE-E044", True, False)


def test_a_container_that_is_not_hardened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(software, "in_container", lambda: True)
    monkeypatch.setattr(software, "_is_writable", lambda _: True)
    assert [one.code for one in software._image()] == ["SITE-W052", "SITE-W053"]
    bill = tmp_path / "sbom.cdx.json"
    bill.touch()
    monkeypatch.setattr(software, "_BILL", bill)
    monkeypatch.setattr(software, "_is_writable", lambda _: False)
    assert [one.status for one in software._image()] == ["pass", "pass"]
    assert [software._root(0).code, software._root(10001).code] == ["SITE-W051", ""]


def test_weights_that_are_not_those_that_are_named(site_file: Path) -> None:
    folder = site_file.parent / "weights"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"altered")
    site_file.write_text(site_file.read_text() + f"weights: {{{'ab' * 32}: weights}}\n")
    named = study(site_file.parent)
    assert "MODEL-E146" in problems(examined(site_file, "software", named=named))
    (folder / "model.safetensors").unlink()
    assert "MODEL-E140" in problems(examined(site_file, "software", named=named))


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=30))
def test_the_area_is_that_of_scikit_learn(drawn: list[tuple[int, bool]]) -> None:
    scores: NDArray[np.float64] = np.array([float(score) for score, _ in drawn])
    positive = np.array([is_ill for _, is_ill in drawn])
    expected = roc_auc_score(positive, scores) if 0 < positive.sum() < len(positive) else 0.5
    assert area(scores, positive) == pytest.approx(expected)

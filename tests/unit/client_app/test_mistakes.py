"""The mistakes that people make, each made in a real folder: the doctor finds it, and says what to do.

Numbers are those of the page ``docs/how-to/when-something-is-wrong.md``, which has a row for each.
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from client_app.data import tables
from client_app.doctor import compute, places
from client_app.ledger import Charge, Ledger, Limits
from fedfm.privacy import Release
from tests.unit.client_app.ward import CANARY, change, examined, make, problems, study, table

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "when-something-is-wrong.md"
Patch = pytest.MonkeyPatch
Mistake = Callable[[Path, Patch], Path | None]
"""Made in a hospital's folder; returns the study to examine it for, or None."""


def edit(old: str, new: str) -> Mistake:
    return lambda file, _: change(file, old, new)


def cells(changed: Callable[[pd.DataFrame], pd.DataFrame], *more: tuple[str, str]) -> Mistake:
    def make_it(file: Path, _: Patch) -> None:
        make(file.parent, changed(table()))
        for old, new in more:
            change(file, old, new)

    return make_it


def wanted(*overrides: str) -> Mistake:
    return lambda file, _: study(file.parent, *overrides)


def cohort(write: Callable[[Path], object]) -> Mistake:
    def make_it(file: Path, _: Patch) -> None:
        write(file.with_name("cohort.csv"))

    return make_it


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def unreadable(_: Path, patch: Patch) -> None:
    def refused(path: Path) -> pd.DataFrame:
        raise PermissionError(13, "Permission denied", str(path))

    patch.setitem(tables.READERS, ".csv", refused)  # root may read everything


def a_used_up_budget(file: Path, _: Patch) -> Path:
    charge = Charge("run-1", "demo", 1, "train", "training", Release(1.2, 1.0, 1))
    Ledger(file.parent / "state", "hospital-a").charge(charge, Limits(100.0, 100.0, 1e-3))
    return study(file.parent, "rounds=1", "privacy.epsilon=3")


def an_impossible_batch(file: Path, _: Patch) -> Path:
    named = study(file.parent)
    told = json.loads(named.read_text())
    told["training"]["sample_rate"] = 2
    named.write_text(json.dumps(told))
    return named


def no_cuda(file: Path, patch: Patch) -> None:
    patch.setattr(torch.cuda, "is_available", lambda: False)
    file.write_text(file.read_text() + "device: cuda\n")


def little_memory(file: Path, patch: Patch) -> Path:
    patch.setattr(compute, "free_bytes", lambda _: 100)
    file.write_text(file.read_text() + "micro_batch: 512\n")
    return study(file.parent)


def weights(content: bytes | None) -> Mistake:
    def make_it(file: Path, _: Patch) -> Path:
        file.with_name("weights").mkdir()
        if content is not None:
            (file.with_name("weights") / "model.safetensors").write_bytes(content)
        file.write_text(file.read_text() + f"weights: {{{'ab' * 32}: weights}}\n")
        return study(file.parent)

    return make_it


def a_read_only_state(_: Path, patch: Patch) -> None:
    def fails(_: int) -> None:
        raise OSError(30, "Read-only file system")

    patch.setattr(os, "fsync", fails)


def a_full_state(_: Path, patch: Patch) -> None:
    patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))  # type: ignore[attr-defined]


def headless(path: Path) -> None:
    path.write_text("\n".join(path.read_text().splitlines()[1:]) + "\n")


TORN = {"part": ["train", "test"] * 200, "pid": [f"{CANARY}-{n // 2:04d}" for n in range(400)]}
SPLIT = "split: {train: 0.5, audit: 0.1, test: 0.4}", "split: {column: part}"

MISTAKES: dict[str, tuple[str, str, tuple[str, ...], Mistake]] = {
    "1": ("config", "SITE-E001", ("site.yaml:7", "did you mean patient?"), edit("patient: pid", "pateint: pid")),
    "2": ("config", "SITE-E002", ("`id` is required",), edit("id: hospital-a\n", "")),
    "3": ("config", "SITE-E003", ("site.yaml:2", "a whole number"), edit(": 200", ": many")),
    "4": ("config", "SITE-E004", ("line 3 has a TAB", "spaces"), edit("state: state", "\tstate: state")),
    "5": ("config", "SITE-E005", ('quotes: "no"',), edit("id: hospital-a", "id: no")),
    "6": ("config", "SITE-E006", ("lines 1 and 2",), edit("id: hospital-a", "id: a1\nid: a2")),
    "7": ("config", "SITE-E007", ("[a-z0-9]",), edit("id: hospital-a", "id: Hospital A")),
    "8": ("data", "SITE-E011", ("no such file", "mount"), edit("cohort.csv", "/home/jane/cohort.csv")),
    "9a": ("data", "SITE-E011", ("no such file",), cohort(Path.unlink)),
    "9b": ("data", "SITE-E011", ("empty",), cohort(lambda path: path.write_bytes(b""))),
    "9c": ("data", "SITE-E011", ("a folder", "name the file"), cohort(a_folder)),
    "10": ("data", "SITE-E012", ("may not be read", "right to read"), unreadable),
    "11": ("data", "SITE-E013", ("not UTF-8", "iconv"), cohort(lambda path: path.write_bytes(b"pid\nM\xfcller\n"))),
    "12a": ("data", "SITE-E014", ("no column 'nte'", "data.text"), edit("text: note", "text: nte")),
    "12b": ("data", "SITE-E014", ("no column 'pid'",), cohort(headless)),
    "13": ("data", "SITE-E015", ("leads to no label", "label_map"), edit(f", {CANARY}-well: recovered", "")),
    "14a": ("data", "SITE-E016", ("the same outcome",), cells(lambda frame: frame.assign(outcome=f"{CANARY}-ill"))),
    "14b": (
        "data",
        "SITE-W016",
        ("fewer than 1 %",),
        cells(lambda frame: frame.assign(outcome=[f"{CANARY}-{'ill' if n < 3 else 'well'}" for n in range(400)])),
    ),
    "15": (
        "data",
        "SITE-W017",
        ("more than half",),
        cells(lambda frame: frame.assign(note=frame.note.where(frame.index > 300, ""))),
    ),
    "16a": ("data", "SITE-E018", ("more than one set",), cells(lambda frame: frame.assign(**TORN), SPLIT)),
    "16b": ("data", "SITE-W018", ("more than once",), cells(lambda frame: pd.concat([frame, frame.head(9)]))),
    "17": (
        "data",
        "SITE-W019",
        ("name the outcome", "cut the notes"),
        cells(lambda frame: frame.assign(note=frame.note + " " + frame.outcome)),
    ),
    "18": ("data", "SITE-W020", ("e-mail",), cells(lambda frame: frame.assign(note=frame.note + " a.b@example.org"))),
    "19": ("data", "SITE-E021", ("min_patients",), cells(lambda frame: frame.head(30))),
    "20": (
        "data",
        "SITE-W022",
        ("sex=female", "merge groups"),
        cells(lambda frame: frame.assign(sex=[f"{CANARY}-{'f' if n < 30 else 'm'}" for n in range(400)])),
    ),
    "22": ("privacy", "SITE-E101", ("at most 4",), wanted("privacy.epsilon=9")),
    "23": ("privacy", "SITE-E102", ("privacy.delta",), wanted("privacy.delta=0.01")),
    "24": ("privacy", "SITE-E103", ("no privacy mechanism",), wanted("privacy=none")),
    "25": ("privacy", "SITE-E104", ("fewer rounds", "max_epsilon"), a_used_up_budget),
    "26": ("privacy", "STUDY-E008", ("sample_rate",), an_impossible_batch),
    "35": ("compute", "SITE-E130", ("CUDA", "device: auto"), no_cuda),
    "36": ("compute", "SITE-E131", ("micro_batch: 512",), little_memory),
    "37a": ("software", "MODEL-E140", ("no model.safetensors",), weights(None)),
    "37b": ("software", "MODEL-E146", ("not the pinned weights",), weights(b"altered")),
    "40a": ("disk", "SITE-E150", ("Read-only file system", "chown"), a_read_only_state),
    "40b": ("disk", "SITE-E043", ("free space",), a_full_state),
}
"""Number to the group that finds it, its code, words of what is told, and how it is made."""


@pytest.fixture
def site_file(tmp_path: Path, monkeypatch: Patch) -> Path:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda1 / ext4 rw 0 0\n")
    monkeypatch.setattr(places, "_MOUNTS", mounts)
    return make(tmp_path / "site")


@pytest.mark.parametrize("number", MISTAKES)
def test_a_mistake_is_told_with_its_code_and_what_to_do(number: str, site_file: Path, monkeypatch: Patch) -> None:
    group, code, words, mistake = MISTAKES[number]
    named = mistake(site_file, monkeypatch)
    findings = examined(site_file, group, named=named)
    assert code in {one.code for one in findings}, findings
    told = " ".join(f"{one.what} {one.fix}" for one in findings if one.code == code)
    assert all(word in told for word in words), told


def test_the_page_has_a_row_for_each_with_the_same_code() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.read_text().splitlines()]
    listed = {
        (row[0], code) for row in rows if row[0][:1].isdigit() for code in re.findall(r"[A-Z]+-[EW]\d{3}", row[2])
    }
    made = {(re.sub(r"[a-z]", "", number), code) for number, (_, code, *_) in MISTAKES.items()}
    assert made <= listed


def test_a_good_hospital_makes_none_of_them(site_file: Path) -> None:
    named = study(site_file.parent, "rounds=1")
    codes = {code for _, code, *_ in MISTAKES.values()}
    assert codes & set(problems(examined(site_file, named=named))) == set()

"""``fedfm-site doctor``: all of a good hospital passes, each planted fault is found, and no patient is ever shown."""

import json
import logging
import sys
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from client_app.doctor import places, software, visit
from client_app.doctor.examined import Examined
from client_app.doctor.groups import GROUPS
from fedfm.findings import Finding
from server_app.demo_data import make_demo_data
from tests.unit.client_app.ward import CANARY, OFFLINE, WORDS, change, doctor, examined, make, problems, study, table


@pytest.fixture
def site_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good hospital on a good machine: a disk, no container, no root."""
    monkeypatch.setattr(places, "_CONTAINER", ())
    monkeypatch.setattr("os.geteuid", lambda: 10001)
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda1 / ext4 rw 0 0\n")
    monkeypatch.setattr(places, "_MOUNTS", mounts)
    return make(tmp_path / "site")


def test_a_good_hospital_passes_everything(site_file: Path) -> None:
    result = doctor(site_file, "--study", study(site_file.parent, "rounds=1"), "--html", site_file.parent / "d.html")
    assert (result.exit_code, "WARN" in result.stdout, "FAIL" in result.stdout) == (0, False, False), result.stdout
    assert "all is well" in result.stdout
    page = (site_file.parent / "d.html").read_text()
    assert CANARY not in page
    assert "all is well" in page
    assert not (site_file.parent / "state").exists()  # a visit leaves nothing behind


def test_every_group_has_its_say_and_one_can_be_asked_alone(site_file: Path) -> None:
    assert {one.group for one in examined(site_file, *GROUPS, named=study(site_file.parent))} >= set(GROUPS)
    assert {one.group for one in examined(site_file, "disk")} == {"disk"}
    assert doctor(site_file, "--group", "nothing").exit_code == 2


def test_a_site_file_that_cannot_be_read_is_all_that_is_told(site_file: Path) -> None:
    change(site_file, "declared_patients: 200", "declared_patients: many\ncolour: blue")
    result = doctor(site_file, "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == told["exit_code"] == 2
    assert [one["code"] for one in told["findings"]] == ["SITE-E001", "SITE-E003"]
    assert "site.yaml:2" in told["findings"][1]["what"]


@pytest.mark.parametrize("name", ["torch", "pandas"])
def test_a_container_without_a_package_skips_what_needs_it(
    site_file: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def group(_: Examined) -> Iterator[Finding]:
        monkeypatch.setitem(sys.modules, name, None)
        __import__(name)
        yield Finding("", "", "pass", "")

    (found,) = visit.guarded("compute", group, None)  # type: ignore[arg-type]
    assert (found.status, found.what) == ("skip", f"not installed here: {name}")


def test_a_module_of_ours_that_is_lost_is_no_skip() -> None:
    def group(_: Examined) -> Iterator[Finding]:
        yield Finding("data", "file", "pass", "read")
        __import__("client_app.no_such_module")

    first, found = visit.guarded("data", group, None)  # type: ignore[arg-type]
    assert (first.what, found.status, found.code) == ("read", "fail", "SITE-E500")


def test_what_nobody_foresaw_is_a_number_and_its_text_stays_here(
    site_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def group(_: Examined) -> Iterator[Finding]:
        raise ValueError(f"could not convert string to float: '{CANARY} Jane Doe'")
        yield

    monkeypatch.setitem(GROUPS, "data", group)
    (site_file.parent / "state").mkdir()
    console = logging.StreamHandler(StringIO())
    logging.getLogger().addHandler(console)
    try:
        findings = examined(site_file, "data", "disk")
    finally:
        logging.getLogger().removeHandler(console)
    assert console.stream.getvalue() == ""
    incident = next(one for one in findings if one.group == "data")
    assert (incident.status, incident.code) == ("fail", "SITE-E500")
    number = incident.what.rpartition(" ")[2]
    log = site_file.parent / "state" / visit.LOG
    assert f"incident {number}" in log.read_text()
    assert f"{CANARY} Jane Doe" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0
    assert any(one.group == "disk" and one.status == "pass" for one in findings)


def canary_hospitals() -> dict[str, pd.DataFrame]:
    """Tables in which every cell is a canary, each wrong in a way of its own."""
    good = table()
    return {
        "good": good,
        "unmapped": good.assign(outcome=[f"{CANARY}-new", *good.outcome[1:]]),
        "one class": good.assign(outcome=f"{CANARY}-ill"),
        "nobody": good.assign(pid=["", *good.pid[1:]]),
        "named": good.assign(note=good.note + " " + good.pid, **{f"{CANARY} name": good.pid}),
        "headless": good.set_axis([f"{CANARY} {n}" for n in range(5)], axis=1),
        "few": good.head(3),
        "many groups": good.assign(sex=good.pid),
        "twice": pd.concat([good, good]),
        "missing": good.assign(note=good.note.where(good.index > 100, "")),
        "told": good.assign(note=good.note + " " + good.outcome),
    }


@pytest.mark.parametrize(
    ("name", "lists_groups"), [*((name, True) for name in canary_hospitals()), ("good", False), ("many groups", False)]
)
def test_no_value_of_a_patient_is_ever_shown(site_file: Path, name: str, lists_groups: bool) -> None:
    make(site_file.parent, canary_hospitals()[name])
    if not lists_groups:
        change(site_file, f", values: {{{CANARY}-f: female, {CANARY}-m: male}}", "")
    page = site_file.parent / "d.html"
    chosen = ["--group", "config", "--group", "data", "--group", "privacy"]
    doctor(site_file, *chosen, "--html", page)  # asserts of its output
    doctor(site_file, *chosen, "--json")
    assert CANARY not in page.read_text()


@pytest.mark.parametrize("missing", [0, 60])
def test_no_count_of_patients_is_shown(tmp_path: Path, missing: int) -> None:
    """One patient more, or one cell less, changes no word of what is told of the data."""
    told = []
    for patients in (400, 401):
        frame = table(patients)
        file = make(tmp_path / f"{patients}", frame.assign(note=frame.note.where(frame.index >= missing, "")))
        if patients == 401:
            change(file, "declared_patients: 200", "declared_patients: 201")
        told.append(examined(file, "data"))
    assert told[0] == told[1]
    assert ("SITE-W017" in problems(told[0])) == bool(missing)


def noted(words: str, share: float = 1.0) -> pd.DataFrame:
    """The table with words added to the first notes."""
    frame = table()
    return frame.assign(note=[f"{note} {words}" if n < share * 400 else note for n, note in enumerate(frame.note)])


GOOD = table()
LONG = " ".join([*WORDS] * 6)
IS_ILL = GOOD.outcome == f"{CANARY}-ill"
BY_AGE = "loader: text", "loader: template\n  template: '{age} years; {note}'"
BY_NAME = "loader: text", "loader: template\n  template: '{pid}; {note}'"
SAME = "", ""

DATA_FAULTS: dict[str, tuple[str, str, pd.DataFrame, tuple[str, str]]] = {
    "rare": (
        "SITE-W016",
        "1 %",
        GOOD.assign(outcome=[f"{CANARY}-{'ill' if n < 3 else 'well'}" for n in range(400)]),
        SAME,
    ),
    "missing": ("SITE-W017", "note: more than 10 %", GOOD.assign(note=GOOD.note.where(GOOD.index > 60, "")), SAME),
    "twice": ("SITE-W018", "more than once", pd.concat([GOOD, GOOD.head(5)]), SAME),
    "copied": ("SITE-W018", "several patients", GOOD.assign(note=LONG), SAME),
    "word": (
        "SITE-W019",
        "name the outcome",
        GOOD.assign(note=GOOD.note + IS_ILL.map({True: " deteriorated", False: ""})),
        SAME,
    ),
    "column": (
        "SITE-W019",
        "(AUROC above 0.98): age",
        GOOD.assign(age=IS_ILL.map({True: "1.5", False: "0.5"})),
        BY_AGE,
    ),
    "late": ("SITE-W019", "(AUROC above 0.98): age", GOOD.assign(age=IS_ILL.map({True: "9", False: ""})), BY_AGE),
    "e-mail": ("SITE-W020", "e-mail addresses", noted("jane.doe@example.org", 0.04), SAME),
    "telephone": ("SITE-W020", "telephone numbers", noted("call 020 7946 0958", 0.04), SAME),
    "record": ("SITE-W020", "record numbers", noted("MRN: 1234567", 0.04), SAME),
    "birth": ("SITE-W020", "dates of birth", noted("DOB 03/04/1950", 0.04), SAME),
    "own": ("SITE-W020", "the patient's own identifier", GOOD.assign(note=GOOD.note + " " + GOOD.pid), SAME),
    "name": ("SITE-W020", "own name", GOOD.assign(surname="Okonkwo", note=GOOD.note + " Mr Okonkwo"), SAME),
    "reads": ("SITE-W020", "column pid", GOOD, BY_NAME),
    "declared": ("SITE-W021", "20 %", GOOD, ("declared_patients: 200", "declared_patients: 400")),
    "small": (
        "SITE-W022",
        "sex=female",
        GOOD.assign(sex=[f"{CANARY}-{'f' if n < 30 else 'm'}" for n in range(400)]),
        SAME,
    ),
    "few": (
        "SITE-E021",
        "policy.min_patients (300)",
        GOOD,
        ("small_cells: cms", "small_cells: cms, min_patients: 300"),
    ),
}
"""Name to the code, words of the message, the table, and what is changed in the site file."""


@pytest.mark.parametrize("name", DATA_FAULTS)
def test_a_fault_of_the_data_is_found_and_it_alone(site_file: Path, name: str) -> None:
    code, words, frame, (old, new) = DATA_FAULTS[name]
    make(site_file.parent, frame)
    change(site_file, old, new) if old else None
    findings = problems(examined(site_file, "data"))
    if name in ("late", "rare", "own", "reads", "twice", "copied"):  # one fault may be seen from two sides
        findings = {found: what for found, what in findings.items() if found == code}
    assert list(findings) == [code]
    assert words in findings[code]


def test_measurements_are_no_identifiers(site_file: Path) -> None:
    make(site_file.parent, noted("BP 120/80, seen 2024-05-01 at 10:30, creatinine 1.24, ward 12, 2019-2024"))
    assert problems(examined(site_file, "data")) == {}


@pytest.mark.slow
def test_a_demo_hospital_is_examined_in_less_than_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = make_demo_data(tmp_path, sites=1)[0]
    began = time.monotonic()
    findings = examined(file)
    assert time.monotonic() - began < 60
    assert [one for one in findings if one.status == "fail"] == []
    assert any(one.check == "private step" and one.status == "pass" for one in findings)


def test_what_calls_home_is_named(site_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    assert software._offline().status == "pass"
    monkeypatch.delenv("FLWR_TELEMETRY_ENABLED")
    monkeypatch.setenv("FEDFM_HUB_DOWNLOAD", "1")
    assert "FLWR_TELEMETRY_ENABLED, FEDFM_HUB_DOWNLOAD" in software._offline().what

"""The audit log and ``fedfm-site audit``: every touch of the record is named, and a copy verifies elsewhere."""

import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from client_app.approvals import FILE as APPROVALS
from client_app.audit_files import HEADS, SUMS
from client_app.audit_log import FILE, AuditLog
from client_app.chain import Chain
from client_app.cli import app
from client_app.ledger import Charge, Ledger, Limits
from client_app.seals import START, sealed, verified
from fedfm.errors import DataError
from fedfm.privacy import Release

CANARY = "ZZPATIENT"
LEDGER = "ledger-hospital-a.jsonl"


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    """A hospital whose log has eight entries, and its ledger two."""
    path = tmp_path / "site.yaml"
    path.write_text(
        f"""id: hospital-a
declared_patients: 60
state: state
data:
  path: {CANARY}.csv
  loader: text
  patient: {CANARY}-mrn
  label: outcome
  label_map: {{ill: deteriorated, well: recovered}}
  text: note
  split: {{train: 0.6, audit: 0.2, test: 0.2}}
"""
    )
    log = AuditLog(tmp_path / "state", beside={"fedfm": "9.9.9", "policy": "ab" * 32})
    for round_ in (1, 2, 3, 4):
        run = "run-1" if round_ < 3 else "[red]run-2[/red]"
        log.entered("Train", b"request of " + CANARY.encode(), run=run, round_=round_)
        log.left("TrainAnswer", b"answer", run=run, round_=round_)
    ledger = Ledger(tmp_path / "state", "hospital-a")
    for round_ in (1, 2):
        charge = Charge("run-1", "demo", round_, "train", "training", Release(4.0, 1.0, 2))
        ledger.charge(charge, Limits(run=math.inf, total=math.inf, delta=1e-3))
    return path


def run(*arguments: object) -> Result:
    """The command's result; whatever happened, no canary was shown and nothing but a code ended it."""
    result = CliRunner().invoke(app, ["audit", *(str(argument) for argument in arguments)], env={"COLUMNS": "120"})
    assert CANARY not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def log_of(site_file: Path) -> Path:
    return site_file.parent / "state" / FILE


def anchor_of(site_file: Path, number: int) -> str:
    return f"{number}:{AuditLog(site_file.parent / 'state').entries()[number - 1]['seal']}"


def forget_the_tail(site_file: Path, *, keep: int) -> None:
    """Cut the log, and its draft, as one does who knows how it is made."""
    log = log_of(site_file)
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:keep]))
    log.with_name(f"{FILE}.next").unlink(missing_ok=True)


def test_a_whole_record_is_said_to_be_whole_with_the_heads_to_note(site_file: Path) -> None:
    result = run("verify", site_file)
    assert result.exit_code == 0
    assert f"whole, {anchor_of(site_file, 8)}" in result.stdout
    told = json.loads(run("verify", site_file, "--json").stdout)
    assert told["whole"] is True
    assert {name: file["entries"] for name, file in told["files"].items()} == {FILE: 8, LEDGER: 2}
    assert told["anchor"] is None


def test_before_anything_happened_there_is_nothing_to_touch(site_file: Path) -> None:
    for file in (site_file.parent / "state").iterdir():
        file.unlink()
    result = run("verify", site_file)
    assert (result.exit_code, result.stdout.count("empty")) == (0, 2)
    assert "No such entries" in run("show", site_file).stdout


def test_one_byte_anywhere_is_found_and_its_line_is_named(site_file: Path) -> None:
    """Every byte of a log is tried: with what stands beside it in the alphabet, a blank, and a line feed."""
    whole = log_of(site_file).read_bytes()
    for at in range(len(whole)):
        line = whole[:at].count(b"\n") + 1
        for other in {(whole[at] + 1) % 256, 32, 9, 10} - {whole[at]}:
            edited = whole[:at] + bytes([other]) + whole[at + 1 :]
            with pytest.raises(DataError, match=rf"SITE-E115 .* — log:{line} "):
                list(verified(edited, START, first=1, where="log"))


def test_an_inserted_blank_is_an_edit_too(site_file: Path) -> None:
    log = log_of(site_file)
    log.write_bytes(log.read_bytes().replace(b'"n": 5', b'"n":  5'))
    result = run("verify", site_file)
    assert result.exit_code == 1
    assert f"{FILE}:5" in result.stderr


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda lines: [*lines[:2], *lines[3:]], 3),
        (lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]], 5),
        (lambda lines: [*lines[:6], lines[5], *lines[6:]], 7),
        (lambda lines: lines[1:], 1),
        (lambda lines: [*lines[:7], lines[7][:-1]], 8),
    ],
    ids=["dropped", "reordered", "repeated", "beginning cut", "torn"],
)
def test_dropped_and_reordered_lines_are_named(
    site_file: Path, change: Callable[[list[bytes]], list[bytes]], line: int
) -> None:
    log = log_of(site_file)
    log.write_bytes(b"".join(change(log.read_bytes().splitlines(keepends=True))))
    log.with_name(f"{FILE}.next").unlink()
    result = run("verify", site_file)
    assert result.exit_code == 1
    assert "DAMAGED" in result.stdout
    assert f"{FILE}:{line}" in result.stderr
    told = json.loads(run("verify", site_file, "--json").stdout)
    assert told["whole"] is False
    assert f"{FILE}:{line}" in told["files"][FILE]["problem"]


def test_a_cut_tail_shows_by_an_anchor_alone(site_file: Path) -> None:
    early, late = anchor_of(site_file, 3), anchor_of(site_file, 8)
    forget_the_tail(site_file, keep=5)
    assert run("verify", site_file).exit_code == 0
    assert run("verify", site_file, "--anchor", early).exit_code == 0
    result = run("verify", site_file, "--anchor", late)
    assert result.exit_code == 1
    assert "NOT HELD" in result.stdout
    told = json.loads(run("verify", site_file, "--anchor", late, "--json").stdout)
    assert (told["whole"], told["anchor"]["held"]) == (False, False)


def test_a_log_written_anew_does_not_hold_the_anchor(site_file: Path) -> None:
    """Whoever seals all lines again, after an edit, has other seals."""
    anchor = anchor_of(site_file, 6)
    previous, lines = START, []
    for number, entry in enumerate(AuditLog(site_file.parent / "state").entries(), start=1):
        body = {name: value for name, value in entry.items() if name not in ("n", "previous", "seal")}
        lines.append(sealed(body | {"bytes": 1}, number=number, previous=previous))
        previous = json.loads(lines[-1])["seal"]
    log_of(site_file).write_bytes(b"".join(lines))
    assert run("verify", site_file).exit_code == 0
    assert run("verify", site_file, "--anchor", anchor).exit_code == 1


@pytest.mark.parametrize("anchor", ["", "8", "8:", "8:xyz", "0:" + "a" * 64, "-1:" + "a" * 64, "8:" + "A" * 64])
def test_an_anchor_of_another_form_is_refused(site_file: Path, anchor: str) -> None:
    assert run("verify", site_file, "--anchor", anchor).exit_code == 2


@pytest.mark.parametrize("anchor", ["9:" + "a" * 64, "9999999999999999:" + "a" * 64, "8:" + "a" * 64])
def test_an_anchor_that_was_never_told_is_not_held(site_file: Path, anchor: str) -> None:
    assert run("verify", site_file, "--anchor", anchor).exit_code == 1


def test_a_damaged_ledger_is_named_as_well(site_file: Path) -> None:
    ledger = site_file.parent / "state" / LEDGER
    ledger.write_bytes(ledger.read_bytes().replace(b'"steps": 2', b'"steps": 1', 1))
    result = run("verify", site_file)
    assert result.exit_code == 1
    assert f"{LEDGER}:1" in result.stderr


def test_a_file_that_cannot_be_read_is_no_damaged_one(site_file: Path) -> None:
    log_of(site_file).unlink()
    log_of(site_file).mkdir()
    result = run("verify", site_file)
    assert result.exit_code == 2
    assert "SITE-E150" in result.stderr


def test_show_tells_kinds_sizes_and_hashes_and_chooses(site_file: Path) -> None:
    result = run("show", site_file)
    assert "last 8 of 8 entries" in result.stdout
    assert "[red]run-2[/red]" in result.stdout
    assert run("show", site_file, "--last", 3).stdout.count("TrainAnswer") == 2
    told = json.loads(run("show", site_file, "--run", "run-1", "--direction", "left", "--json").stdout)
    assert [(entry["n"], entry["direction"]) for entry in told["entries"]] == [(2, "left"), (4, "left")]
    assert told["entries"][0]["policy"] == "ab" * 32
    assert told["entries"][0]["fedfm"] == "9.9.9"
    assert run("show", site_file, "--direction", "sideways").exit_code == 2


@pytest.mark.parametrize("name", ["copy.zip", "copy"])
def test_a_copy_verifies_by_itself_and_holds_the_record_byte_for_byte(site_file: Path, name: str) -> None:
    entry = Chain(site_file.parent / "state" / APPROVALS).append({"action": "approve", "study": "cd" * 32})
    AuditLog(site_file.parent / "state").decided("approve", entry, study="cd" * 32)
    copy, anchor = site_file.parent / name, anchor_of(site_file, 8)
    result = run("export", site_file, copy)
    assert result.exit_code == 0, result.output
    content = _content(copy)
    assert set(content) == {FILE, LEDGER, APPROVALS, HEADS, SUMS}
    assert content[FILE] == log_of(site_file).read_bytes()
    assert json.loads(content[HEADS])["heads"][FILE]["entries"] == 9
    assert CANARY.encode() not in b"".join(content.values())
    site_file.unlink()
    assert run("verify", copy, "--anchor", anchor).exit_code == 0
    assert run("verify", copy, "--anchor", "8:" + "0" * 64).exit_code == 1


def _content(copy: Path) -> dict[str, bytes]:
    if copy.is_dir():
        return {file.name: file.read_bytes() for file in copy.iterdir()}
    with zipfile.ZipFile(copy) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


@pytest.mark.parametrize("name", [FILE, LEDGER, HEADS, SUMS])
def test_a_copy_that_was_touched_is_found(site_file: Path, name: str) -> None:
    copy = site_file.parent / "copy"
    run("export", site_file, copy)
    touched = copy / name
    touched.write_bytes(touched.read_bytes().replace(b"a", b"b", 1))
    result = run("verify", copy)
    assert result.exit_code == 1
    assert "SITE-E115" in result.stderr


def test_a_stranger_in_a_copy_is_found(site_file: Path) -> None:
    copy = site_file.parent / "copy"
    run("export", site_file, copy)
    (copy / "more.jsonl").write_bytes(b"")
    assert run("verify", copy).exit_code == 1


def test_a_damaged_record_is_not_copied_and_nothing_is_overwritten(site_file: Path) -> None:
    copy = site_file.parent / "copy.zip"
    assert run("export", site_file, copy).exit_code == 0
    before = copy.read_bytes()
    again = run("export", site_file, copy)
    assert (again.exit_code, copy.read_bytes()) == (2, before)
    assert "SITE-E154" in again.stderr
    log_of(site_file).write_bytes(log_of(site_file).read_bytes().replace(b"entered", b"Entered", 1))
    damaged = run("export", site_file, site_file.parent / "other.zip")
    assert damaged.exit_code == 2
    assert "SITE-E115" in damaged.stderr
    assert not (site_file.parent / "other.zip").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip at all"])
def test_what_is_no_copy_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    result = run("verify", tmp_path / "x.zip")
    assert result.exit_code == 2
    assert "SITE-E154" in result.stderr
    assert run("verify", tmp_path).exit_code == 2
    assert run("verify", tmp_path / "absent.zip").exit_code == 2


def test_a_line_that_is_nested_too_deeply_is_a_damaged_one(site_file: Path) -> None:
    log_of(site_file).write_bytes(b"[" * 200_000 + b"\n")
    assert run("verify", site_file).exit_code != 0

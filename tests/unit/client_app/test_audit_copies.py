"""Copies of the sealed files: those that were cut are found, those that are broken or endless are refused."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from client_app import audit_copy
from client_app.audit_copy import HEADS, SUMS, sums
from client_app.audit_log import FILE, AuditLog
from client_app.cli import app
from client_app.seals import START, sealed
from fedfm.findings import without_controls
from tests.unit.fedfm.test_config_site import GOOD

STEERING = "run\x1b[2J\x1b]0;t\x07-\u202egro\u2066\u200b\x9b31m\r"
"""A name that clears the screen, sets its title, turns the direction of writing and hides letters."""


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    (tmp_path / "site.yaml").write_text(GOOD)
    log = AuditLog(tmp_path / "state")
    for round_ in (1, 2, 3):
        log.entered("Train", b"x", run=STEERING, round_=round_)
    return tmp_path / "site.yaml"


@pytest.fixture
def copy(site_file: Path, tmp_path: Path) -> Path:
    assert run("export", site_file, tmp_path / "copy").exit_code == 0
    assert run("verify", tmp_path / "copy").exit_code == 0
    return tmp_path / "copy"


def run(*arguments: object) -> Result:
    """The command's result: nothing but a code ended it, and nothing on the screen acts on it."""
    result = CliRunner().invoke(app, ["audit", *map(str, arguments)], env={"COLUMNS": "150"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    for letter in result.stdout + result.stderr:
        assert letter.isprintable() or letter == "\n", repr(letter)
    return result


def listed_anew(copy: Path) -> None:
    """Write the hashes of a copy's files anew, as whoever changed them would."""
    content = {file.name: file.read_bytes() for file in copy.iterdir() if file.name != SUMS}
    (copy / SUMS).write_bytes(sums(content))


def cut(copy: Path) -> None:
    path = copy / FILE
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def grown(copy: Path) -> None:
    path = copy / FILE
    last = json.loads(path.read_bytes().splitlines()[-1])
    path.write_bytes(path.read_bytes() + sealed({"direction": "left"}, number=last["n"] + 1, previous=last["seal"]))


def without_ledger(copy: Path) -> None:
    next(copy.glob("ledger-*.jsonl")).unlink()


def with_another(copy: Path) -> None:
    (copy / "other.jsonl").write_bytes(sealed({}, number=1, previous=START))


@pytest.mark.parametrize("change", [cut, grown, without_ledger, with_another])
def test_a_copy_that_does_not_end_as_it_says_is_found_although_its_hashes_are_right(
    copy: Path, change: Callable[[Path], None]
) -> None:
    change(copy)
    listed_anew(copy)
    result = run("verify", copy)
    assert (result.exit_code, "SITE-E115" in result.stderr, HEADS in result.stderr) == (1, True, True)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"heads": 7}', '{"heads": {"audit.jsonl": 3}}', "[" * 100_000])
def test_heads_that_say_nothing_hold_for_no_file(copy: Path, content: str) -> None:
    (copy / HEADS).write_text(content)
    listed_anew(copy)
    assert run("verify", copy).exit_code == 1


def zipped(path: Path, content: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", how) as made:
        for name, data in content.items():
            made.writestr(name, data)
    return path


def test_any_byte_of_a_compressed_copy_may_be_broken(site_file: Path, tmp_path: Path) -> None:
    """Each is refused by a code or found; before, some ended in the decompressor's own errors."""
    assert run("export", site_file, tmp_path / "good.zip").exit_code == 0
    good, broken = (tmp_path / "good.zip").read_bytes(), tmp_path / "broken.zip"
    for at in range(0, len(good), 7):
        broken.write_bytes(good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :])
        assert run("verify", broken).exit_code in (0, 1, 2)  # 0: in what no reader looks at, such as a date
    for size in range(0, len(good), 97):
        broken.write_bytes(good[:size])
        assert run("verify", broken).exit_code == 2


def test_a_compressed_file_that_ends_early_or_is_no_compressed_one_is_refused(tmp_path: Path) -> None:
    for damage in ("cut", "garbage"):
        path = zipped(tmp_path / f"{damage}.zip", {FILE: b"ab" * 5000, HEADS: b"", SUMS: b""})
        data = bytearray(path.read_bytes())
        with zipfile.ZipFile(path) as made:
            member = made.getinfo(FILE)
        begin = 30 + len(FILE)
        data[begin : begin + member.compress_size] = (
            b"\xff" * member.compress_size if damage == "garbage" else b"\x00" * member.compress_size
        )
        path.write_bytes(data)
        result = run("verify", path)
        assert (result.exit_code, "SITE-E154" in result.stderr) == (2, True)


@pytest.mark.parametrize("form", ["zip", "folder"])
def test_what_is_read_is_bounded_in_sum_and_number(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    content = {file.name: file.read_bytes() for file in copy.iterdir()}
    named = copy if form == "folder" else zipped(tmp_path / "x.zip", content)
    size = sum(map(len, content.values()))
    monkeypatch.setattr(audit_copy, "LARGEST", size)
    assert run("verify", named).exit_code == 0
    monkeypatch.setattr(audit_copy, "LARGEST", size - 1)  # none of the files alone is as large
    assert (run("verify", named).exit_code, "SITE-E154" in run("verify", named).stderr) == (2, True)
    monkeypatch.setattr(audit_copy, "LARGEST", size)
    monkeypatch.setattr(audit_copy, "MOST", len(content) - 1)
    assert "SITE-E154" in run("verify", named).stderr


def test_other_compressions_and_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    content = {FILE: b"", HEADS: b"", SUMS: b""}
    for how in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert "SITE-E154" in run("verify", zipped(tmp_path / f"{how}.zip", content, how)).stderr
    path = zipped(tmp_path / "twice.zip", content)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as made:
        made.writestr(FILE, b"")
    assert "SITE-E154" in run("verify", path).stderr


def test_names_from_outside_cannot_act_on_the_screen(site_file: Path, copy: Path) -> None:
    shown = "run·[2J·]0;t·-·gro··"
    assert shown in run("show", site_file).stdout
    (copy / f"{STEERING}.jsonl").write_bytes(b"{}\n")
    result = run("verify", copy)  # the helper looks at each letter
    assert result.exit_code == 1
    assert shown in result.stdout
    assert STEERING in json.loads(run("show", site_file, "--json").stdout)["entries"][0]["run"]
    assert without_controls("a\nb\x1b\u202e\u200b") == "a\nb" + 3 * "\N{REPLACEMENT CHARACTER}"

"""What is old goes, what is of the run under way stays, and nothing else is touched."""

import datetime
import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client_app.asked import Round
from client_app.reasons import checked_model, retention
from tests.unit.client_app.test_check_history import asked_in, kept
from tests.unit.client_app.test_kept_json import header, model_file

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
OLD, NEW = NOW - datetime.timedelta(days=91), NOW - datetime.timedelta(days=89)


def check(state: Path, time: str, *, run: str, number: int = 1) -> Path:
    """Keep a check of a time; the file itself is of now."""
    before = set(state.glob("check-*"))
    kept(state, number, run=run)
    (path,) = set(state.glob("check-*")) - before
    path.write_text(json.dumps(json.loads(path.read_text()) | {"time": time}))
    return path


def model(state: Path, time: str, *, run: str) -> Path:
    name = f"checked-{len(list(state.iterdir())):016x}.model"
    model_file(state, json.dumps(header() | {"time": time, "run": run}), name=name)
    return state / name


def changed(path: Path, time: datetime.datetime) -> Path:
    os.utime(path, (time.timestamp(), time.timestamp()))
    return path


def remove(state: Path, *, days: int = 90, run: str = "run-1") -> None:
    asked: Any = asked_in(state, 3)
    explanations = replace(asked.site.explanations, keep_days=days)
    site, request = replace(asked.site, explanations=explanations), replace(asked.request, run=run)
    of_run: Round = replace(asked, site=site, request=request)
    retention.remove_old(of_run, now=NOW)


def test_what_is_older_than_the_days_goes_and_the_log_says_how_many(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = [made(tmp_path, OLD.isoformat(), run="earlier") for made in (check, model)]
    new = [made(tmp_path, NEW.isoformat(), run="later") for made in (check, model)]
    with caplog.at_level(logging.INFO):
        remove(tmp_path)
    assert [path.exists() for path in (*old, *new)] == [False, False, True, True]
    assert "2 kept checks and models, older than 90 days, have been removed" in caplog.text
    caplog.clear()
    remove(tmp_path)
    assert caplog.text == ""
    remove(tmp_path, days=88)
    assert list(tmp_path.iterdir()) == []


def test_the_run_under_way_keeps_its_own_however_old(tmp_path: Path) -> None:
    for number in (1, 2):
        check(tmp_path, OLD.isoformat(), run="run-1", number=number)
    model(tmp_path, OLD.isoformat(), run="run-1")
    damaged = next(tmp_path.glob("check-1-*"))
    damaged.write_text("{")
    changed(damaged, OLD)
    partial = asked_in(tmp_path, 3).kept("checked", ".partial")
    partial.write_text("")
    changed(partial, OLD)
    before = set(tmp_path.iterdir())
    remove(tmp_path)
    assert set(tmp_path.iterdir()) == before
    remove(tmp_path, run="run-2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("time", ["yesterday", "", "2999-01-01", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_cannot_be_is_that_of_the_file(time: str, tmp_path: Path) -> None:
    old, new = (check(tmp_path, time, run=run) for run in ("a", "b"))
    changed(old, OLD)
    changed(new, NEW)
    remove(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)


def test_what_cannot_be_read_is_as_old_as_its_file_and_a_copy_as_old_as_its_check(tmp_path: Path) -> None:
    damaged = [tmp_path / f"check-1-{'0' * 16}.json", tmp_path / f"checked-{'0' * 16}.model"]
    damaged.append(tmp_path / f"check-2-{'0' * 16}.partial")
    for path in damaged:
        path.write_bytes(b"[" * 100_000)
    remove(tmp_path)
    assert set(tmp_path.iterdir()) == set(damaged)
    for path in damaged:
        changed(path, OLD)
    early = check(tmp_path, "0001-01-01T00:00:00+14:00", run="a")
    restored = changed(check(tmp_path, "2026-05-31", run="b"), OLD)
    remove(tmp_path)
    assert set(tmp_path.iterdir()) == {restored}
    assert not early.exists()


@pytest.mark.parametrize("name", ["check-1-{}.json", "checked-{}.model", "personal-{}.safetensors"])
def test_a_draft_that_a_crash_left_goes_when_it_is_old(name: str, tmp_path: Path) -> None:
    """Of any file that stays at the site: it may hold a model of its patients."""
    old, new = (tmp_path / f"{name.format('0' * 16)}.{digit * 16}.partial" for digit in "ab")
    for path, time in ((old, OLD), (new, NEW)):
        path.write_bytes(b"half")
        changed(path, time)
    remove(tmp_path)
    assert list(tmp_path.iterdir()) == [new]


def test_nothing_else_is_touched(tmp_path: Path) -> None:
    others = [
        *("ledger-a.jsonl", "audit.jsonl", "check-1.json", "check-mine.json", "checked-notes.model"),
        *(f"personal-{'0' * 16}.safetensors", f"comparison-{'0' * 16}.json", f"check-1-{'0' * 16}.json.bak"),
        *("notes.partial", "notes.0123.partial", f"notes.{'z' * 16}.partial"),
        f"xcheck-1-{'0' * 16}.json",
    ]
    for name in others:
        (tmp_path / name).write_text("{}")
        changed(tmp_path / name, OLD)
    (tmp_path / f"check-3-{'0' * 16}.json").mkdir()
    changed(tmp_path / f"check-3-{'0' * 16}.json", OLD)
    remove(tmp_path, days=1)
    assert {path.name for path in tmp_path.iterdir()} == {*others, f"check-3-{'0' * 16}.json"}


def test_what_cannot_be_removed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    check(tmp_path, OLD.isoformat(), run="earlier")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refused)
    remove(tmp_path)
    assert "1 kept checks or models cannot be looked at or removed" in caplog.text


def test_the_model_that_was_kept_last_is_still_found(tmp_path: Path) -> None:
    model(tmp_path, OLD.isoformat(), run="run-1")
    remove(tmp_path)
    assert checked_model.last(asked_in(tmp_path, 3).site).run == "run-1"


@pytest.mark.parametrize("method", ["iterdir", "is_file"])
def test_a_folder_that_cannot_be_looked_at_stops_nothing(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = check(tmp_path, OLD.isoformat(), run="earlier")

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, method, refused)
        remove(tmp_path)
    assert path.exists()
    assert "cannot be" in caplog.text

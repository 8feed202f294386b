"""What stays at the site is written whole, however many write it at once, and no draft of it stays for ever."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client_app import own_files
from client_app.own_files import is_draft, keep
from fedfm.errors import DataError

HOUR = 60 * 60


def test_writers_at_once_never_mix_and_none_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stops between its draft and its place until all have written a draft: the worst order there is."""
    path, count = tmp_path / "check-1.json", 8
    together, real = threading.Barrier(count, timeout=20), os.fsync

    def waiting(file: int) -> None:
        real(file)
        together.wait()

    monkeypatch.setattr(own_files.os, "fsync", waiting)
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            keep(path, bytes([number]) * 100_000)
        except BaseException as error:
            failed.append(error)
            together.abort()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(set(path.read_bytes())) == 1
    assert len(path.read_bytes()) == 100_000
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o077 == 0


def test_files_that_differ_in_their_ending_have_drafts_of_their_own(tmp_path: Path) -> None:
    drafts: list[str] = []
    for name in ("a.json", "a.model"):
        _dying(tmp_path / name, drafts)
    assert len(set(drafts)) == 2
    assert all(is_draft(name) for name in drafts)


def _dying(path: Path, drafts: list[str]) -> None:
    """Begin to write, and die: what a kill leaves behind."""

    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        drafts.extend(file.name for file in path.parent.iterdir() if file.name.startswith(f"{path.name}."))
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_files.os, "fsync", killed)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(Killed):
            keep(path, b"half")


def test_what_a_killed_writer_left_goes_with_a_later_write_and_a_running_one_keeps_its_draft(tmp_path: Path) -> None:
    drafts: list[str] = []
    _dying(tmp_path / "a.json", drafts)
    (draft,) = [tmp_path / name for name in drafts]
    keep(tmp_path / "a.json", b"whole")
    assert draft.exists()  # it may be another's that is being written
    os.utime(draft, (draft.stat().st_mtime - 2 * HOUR,) * 2)
    keep(tmp_path / "b.json", b"another file")
    assert draft.exists()
    keep(tmp_path / "a.json", b"again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


def full(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("break_it", [("os", "fsync"), ("os", "open"), ("Path", "replace")])
def test_a_full_disk_leaves_the_file_that_was_there_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, break_it: tuple[str, str]
) -> None:
    keep(tmp_path / "a.json", b"first")
    where: Callable[..., Any] | Any = getattr(own_files, break_it[0])
    monkeypatch.setattr(where, break_it[1], full)
    with pytest.raises(DataError, match="SITE-E163"):
        keep(tmp_path / "a.json", b"second")
    monkeypatch.undo()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.json", b"first")]

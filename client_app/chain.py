"""An append-only file of JSON lines in which each line seals the one before.

An entry is on disk before ``append`` returns. A line that was edited, dropped or
re-ordered is found on reading; a dropped tail is not, unless its last seal is known elsewhere.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from fedfm.errors import DataError

Check = Callable[[list[dict[str, Any]]], None]

_START = "0" * 64


def append(path: Path, entry: Mapping[str, Any], *, check: Check | None = None) -> dict[str, Any]:
    """Add one entry and return it with its ``n`` (from 1), ``previous`` and ``seal``.

    Args:
        path: The file; made with its folder where it does not exist.
        entry: What to write, of JSON types.
        check: Sees all earlier entries under the same lock, and raises to refuse the new one.

    Guarantees:
        Locked against other processes; flushed to disk (fsync) before returning. Where writing
        fails, the file is as before. A torn last line, left by a crash in the middle of an
        append, is refused on reading, never skipped.

    Raises:
        DataError: The file is damaged, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        created = not path.exists()
        with path.open("a+", encoding="utf-8", errors="surrogateescape") as file:  # bad bytes break a seal, below
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            entries = _verified(file.read(), path)
            if check is not None:
                check(entries)
            sealed = _sealed(entry, entries)
            _write_whole(file, json.dumps(sealed, sort_keys=True) + "\n")
        if created:
            _sync_folder(path.parent)
    except OSError as error:
        raise DataError(
            "SITE-E150",
            "cannot write",
            where=str(path),
            found=error.strerror or type(error).__name__,
            fix="free disk space, or give the trainer's user write access to the folder",
        ) from error
    return sealed


def read(path: Path) -> list[dict[str, Any]]:
    """Return all entries, oldest first; empty where the file does not exist.

    Raises:
        DataError: A line does not follow from the one before, or the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return _verified(file.read(), path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(
            "SITE-E150",
            "cannot read",
            where=str(path),
            found=error.strerror or type(error).__name__,
            fix="give this user the right to read the file and its folder",
        ) from error


def _write_whole(file: TextIO, line: str) -> None:
    size = os.fstat(file.fileno()).st_size
    try:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    except OSError:
        os.ftruncate(file.fileno(), size)
        raise


def _sealed(entry: Mapping[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    previous = entries[-1]["seal"] if entries else _START
    body = {**entry, "n": len(entries) + 1, "previous": previous}
    return {**body, "seal": _seal(body)}


def _seal(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _verified(text: str, path: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    previous = _START
    for number, line in enumerate(text.splitlines(), start=1):
        entry = _parsed(line)
        seal = entry.pop("seal", None)
        if entry.get("previous") != previous or entry.get("n") != number or seal != _seal(entry):
            raise DataError(
                "SITE-E115",
                "the file was edited, cut or damaged",
                where=f"{path}:{number}",
                fix="restore it from a backup that is at least as new; never delete it",
            )
        entry["seal"] = previous = str(seal)
        entries.append(entry)
    if text and not text.endswith("\n"):
        raise DataError(
            "SITE-E115",
            "the last line is not complete",
            where=f"{path}:{len(entries)}",
            fix="restore it from a backup that is at least as new; never delete it",
        )
    return entries


def _parsed(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

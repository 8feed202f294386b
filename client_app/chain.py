"""An append-only file of JSON lines in which each line seals the one before.

An entry is on disk before ``append`` returns. A line that was edited, dropped or
re-ordered is found on reading; a dropped tail is not, unless its last seal is known elsewhere.
"""

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedfm.errors import DataError

logger = logging.getLogger(__name__)

Entry = dict[str, Any]
Check = Callable[[list[Entry]], None]

_START = "0" * 64


class Chain:
    """One file; remembers what it has verified, and verifies the rest.

    The bytes that were verified before are compared by their hash at every call, which takes
    milliseconds for thousands of entries. A file that changed or shrank under this object is
    damaged, also where it is whole in itself. Not for several threads at once.

    Args:
        path: The file; made with its folder where it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._forget()

    def read(self) -> list[Entry]:
        """Return all entries, oldest first; empty where the file does not exist.

        The list is this object's own and grows in place. A torn last line, of an append that never
        returned, is left out.

        Raises:
            DataError: A line does not follow from the one before, or the file cannot be read.
        """
        with _explained(self.path, "cannot read", "give this user the right to read the file and its folder"):
            try:
                file = os.open(self.path, os.O_RDONLY)
            except FileNotFoundError:
                self._verify(b"")
                return self._entries
            with _locked(file, fcntl.LOCK_SH):
                self._verify(_bytes_of(file))
        return self._entries

    def append(self, entry: Mapping[str, Any], *, check: Check | None = None) -> Entry:
        """Add one entry and return it with its ``n`` (from 1), ``previous`` and ``seal``.

        Args:
            entry: What to write, of JSON types.
            check: Sees all earlier entries under the same lock, and raises to refuse the new one.

        Guarantees:
            Locked against other processes; flushed to disk (fsync) before returning. Where writing
            fails, the file is as before. A torn last line, left by a crash in the middle of an
            append, is set aside: that append never returned, so nothing was done on its strength.

        Raises:
            DataError: The file is damaged, or cannot be written.
        """
        fix = "free disk space, or give the trainer's user write access to the folder"
        with _explained(self.path, "cannot write", fix):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            created = not self.path.exists()
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            with _locked(file, fcntl.LOCK_EX):
                self._set_aside(file, self._verify(_bytes_of(file)))
                if check is not None:
                    check(self._entries)
                sealed = _sealed(entry, self._entries)
                line = (json.dumps(sealed, sort_keys=True) + "\n").encode()
                _write_whole(file, line)
                if created:
                    _sync_folder(self.path.parent)
            self._take(line, sealed)
        return sealed

    def _forget(self) -> None:
        self._size, self._hash = 0, hashlib.sha256()
        self._entries: list[Entry] = []

    def _take(self, line: bytes, entry: Entry) -> None:
        self._size += len(line)
        self._hash.update(line)
        self._entries.append(entry)

    def _verify(self, content: bytes) -> bytes:
        """Verify what is new since the last call; return a torn tail."""
        if hashlib.sha256(content[: self._size]).digest() != self._hash.digest():
            self._forget()
            self._verify(content)  # names the line, where one was edited
            self._forget()
            raise self._damaged(0, "an older or another file was put in its place")
        *lines, torn = content[self._size :].split(b"\n")
        for line in lines:
            entry = _parsed(line)
            seal = entry.pop("seal", None)
            if not _follows(entry, self._entries) or seal != _seal(entry):
                number = len(self._entries) + 1
                self._forget()
                raise self._damaged(number, "the file was edited, cut or damaged")
            self._take(line + b"\n", {**entry, "seal": seal})
        return torn

    def _damaged(self, line: int, what: str) -> DataError:
        where = f"{self.path}:{line}" if line else str(self.path)
        return DataError(
            "SITE-E115", what, where=where, fix="restore it from a backup that is at least as new; never delete it"
        )

    def _set_aside(self, file: int, torn: bytes) -> None:
        """Keep a torn last line in a file of its own, and cut it off."""
        if not torn:
            return
        kept = self.path.with_suffix(f".torn-{self._size}")
        kept.write_bytes(torn)
        os.ftruncate(file, self._size)
        os.fsync(file)
        logger.warning("the last line of %s was torn by a crash; it was never acted on, and is in %s", self.path, kept)


@contextmanager
def _explained(path: Path, what: str, fix: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        found = error.strerror or type(error).__name__
        raise DataError("SITE-E150", what, where=str(path), found=found, fix=fix) from error


@contextmanager
def _locked(file: int, kind: int) -> Iterator[None]:
    """Hold a lock on an open file, and close it afterwards."""
    try:
        fcntl.flock(file, kind)
        yield
    finally:
        os.close(file)


def _bytes_of(file: int) -> bytes:
    size = os.fstat(file).st_size
    content = b""
    while len(content) < size and (part := os.pread(file, size - len(content), len(content))):
        content += part
    return content


def _write_whole(file: int, line: bytes) -> None:
    """Write the line and flush it to the disk; where that fails, the file is as before."""
    size = os.fstat(file).st_size
    try:
        rest = line
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)
    except OSError:
        os.ftruncate(file, size)
        raise


def _sealed(entry: Mapping[str, Any], entries: list[Entry]) -> Entry:
    previous = entries[-1]["seal"] if entries else _START
    body = {**entry, "n": len(entries) + 1, "previous": previous}
    return {**body, "seal": _seal(body)}


def _follows(entry: Entry, entries: list[Entry]) -> bool:
    previous = entries[-1]["seal"] if entries else _START
    return entry.get("n") == len(entries) + 1 and entry.get("previous") == previous


def _seal(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _parsed(line: bytes) -> Entry:
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

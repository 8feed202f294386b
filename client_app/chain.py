"""An append-only file of JSON lines in which each line seals the one before.

An entry is on disk before ``append`` returns. A line that was edited, dropped or re-ordered is found on reading;
a dropped tail is found by whoever knows of it: this process, the draft, or the coordinator that was told its seal.

A crash in the middle of an append leaves a torn line. Beside the file stands a draft, ``<name>.next``: the whole
line, written before the first byte of it goes into the file. The next append finishes the torn line from there, so
that what was begun counts, although nobody had been told yet that it is written. A torn line that is not the
beginning of its draft is no crash of an append but a file that was cut, and is refused.

What is checked when: the first call of an object verifies every seal. A later one looks at file and draft: which they
are, their sizes, and when they changed last. Where they are as this object left them, it goes on from what it knows;
else, and where a minute has passed since the last time, the bytes that it knows are compared by their hash, and what
is new is verified.
"""

import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from client_app.looks import Look, look, marked
from client_app.seals import START, damaged, recovered, sealed, verified, written_before
from fedfm.errors import DataError
from fedfm.wire import Head

logger = logging.getLogger(__name__)

Entry = dict[str, Any]
Check = Callable[[list[Entry]], None]

COMPARED_FOR = 60.0
"""Seconds after which bytes are compared again, although the file looks the same."""

_Looks = tuple[Look | None, Look | None]
"""Of the file and of its draft."""


class Chain:
    """One file; remembers what it has verified, and verifies the rest.

    A file that changed or shrank under this object is damaged for it ever after, also where it is whole in itself.
    Not for several threads at once.

    Args:
        path: The file; made with its folder where it does not exist.
        clock: Seconds, of which only differences count.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._known: _Looks | None = None  # None: whatever it looks like, its bytes are compared
        self._compared_at = 0.0
        self._draft = path.with_name(f"{path.name}.next")
        self._size, self._hash = 0, hashlib.sha256()
        self._entries: list[Entry] = []
        self._is_folder_synced = False

    def read(self) -> list[Entry]:
        """Return all entries, oldest first; empty where the file does not exist.

        The list is this object's own and grows in place. A line that a crash left torn is read as its
        draft has it: the next append will finish it.

        Raises:
            DataError: A line does not follow from the one before, the file does not go on from what this
                object, or the draft, knows of it, or it cannot be read.
        """
        with _explained(self.path, "cannot read", "give this user the right to read the file and its folder"):
            try:
                file = os.open(self.path, os.O_RDONLY)
            except FileNotFoundError:
                self._verify(b"")
                return self._entries
            with _held(file, fcntl.LOCK_SH):
                self._refresh(file)
        return self._entries

    def head(self) -> Head:
        """Return the number of entries, and the seal of the last; empty where there is none. Raises like ``read``."""
        entries = self.read()
        return Head(len(entries), str(entries[-1]["seal"])) if entries else Head()

    def holds(self, head: Head) -> bool:
        """Whether the file goes on from this head, which was told before; 0 entries: any does. Raises like ``read``."""
        own = self.read()
        return not head.entries or (0 < head.entries <= len(own) and own[head.entries - 1]["seal"] == head.seal)

    def append(self, entry: Mapping[str, Any], *, check: Check | None = None) -> Entry:
        """Add one entry and return it with its ``n`` (from 1), ``previous`` and ``seal``.

        Args:
            entry: What to write, of JSON types.
            check: Sees all earlier entries under the same lock, and raises to refuse the new one.

        Guarantees:
            Locked against other processes; flushed to disk (fsync) before returning. Where writing
            fails, the file is as before. A line that a crash left torn is finished first, and counts.

        Raises:
            DataError: As in ``read``, or the file cannot be written.
        """
        fix = "free disk space, or give the trainer's user write access to the folder"
        with _explained(self.path, "cannot write", fix):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = _made(self.path, os.O_RDWR | os.O_APPEND)
            with _held(file, fcntl.LOCK_EX):
                self._finish(file, self._refresh(file))
                if check is not None:
                    check(self._entries)
                last = self._entries[-1]["seal"] if self._entries else START
                line = sealed(entry, number=len(self._entries) + 1, previous=last)
                self._write(file, line)
                added: Entry = json.loads(line)
                self._take(line, added)
                self._mark(file)
        return added

    def _take(self, line: bytes, entry: Entry) -> None:
        self._size += len(line)
        self._hash.update(line)
        self._entries.append(entry)

    def _refresh(self, file: int) -> bytes:
        """Verify the file, unless it is as this object knows it; return what it lacks of a torn line."""
        seen: _Looks = look(file), look(self._draft)
        now = self._clock()
        if seen == self._known and now - self._compared_at < COMPARED_FOR:
            return b""
        self._known = None
        rest = self._verify(_bytes_of(file))
        self._compared_at = now
        if not rest and all(one is None or one.is_settled for one in seen):
            self._known = seen
        return rest

    def _mark(self, file: int) -> None:
        """Remember how the file looks that was just written, in a way that no other write can make it look."""
        draft = os.open(self._draft, os.O_RDONLY)
        try:
            seen = marked(file), marked(draft)
        finally:
            os.close(draft)
        self._known = None if None in seen else seen

    def _verify(self, content: bytes) -> bytes:
        """Verify what is new since the last call; return what the file lacks of a torn line."""
        draft = self._read_draft()
        whole = recovered(content, draft)
        if hashlib.sha256(whole[: self._size]).digest() != self._hash.digest():
            for _ in verified(whole, START, first=1, where=_where(self.path)):
                pass  # names the line, where one was edited
            raise damaged("an older or another file was put in its place", _where(self.path))
        start, first = self._size, len(self._entries) + 1
        last = self._entries[-1]["seal"] if self._entries else START
        for entry, end in verified(whole, last, first=first, where=_where(self.path), offset=start):
            self._take(whole[start:end], entry)
            start = end
        if written_before(draft) > len(self._entries):
            raise damaged("lines are missing at its end", _where(self.path), len(self._entries) + 1)
        return whole[len(content) :]

    def _read_draft(self) -> bytes:
        try:
            return self._draft.read_bytes()
        except FileNotFoundError:
            return b""

    def _finish(self, file: int, rest: bytes) -> None:
        if rest:
            _write_all(file, rest)
            os.fsync(file)
            logger.warning("%s: finished the last line, which a crash had cut short; it counts", self.path)

    def _write(self, file: int, line: bytes) -> None:
        """Write the draft and then the line, which is on disk on return; where that fails, the file is as before.

        The draft is not forced to disk: it outlives a killed process as it is. Where the machine itself fails and
        a draft is lost with it, a torn line is refused instead of finished.
        """
        self._known = None
        try:
            draft = _made(self._draft, os.O_WRONLY | os.O_TRUNC)
            try:
                _write_all(draft, line)
            finally:
                os.close(draft)
            _write_all(file, line)
            os.fsync(file)
            if not self._is_folder_synced:  # a file that was made is found again only then
                _sync_folder(self.path.parent)
                self._is_folder_synced = True
        except OSError:
            os.ftruncate(file, self._size)
            self._draft.unlink(missing_ok=True)
            raise


@contextmanager
def locked(path: Path, *, alone: bool) -> Iterator[None]:
    """Hold a lock across processes on a file that only serves for it, over what several sealed files say together.

    Args:
        path: The file; made with its folder for who writes. Who reads, where there is none, needs no lock.
        alone: Whether nobody else may hold it meanwhile: to write; else to read.

    Raises:
        DataError: It cannot be made or opened.
    """
    with _explained(path, "cannot lock", "give the trainer's user write access to the folder"):
        if alone:
            path.parent.mkdir(parents=True, exist_ok=True)
        file = _made(path, os.O_RDONLY) if alone or path.exists() else None
    if file is None:
        yield
        return
    with _held(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
        yield


def _made(path: Path, how: int) -> int:
    """Open a file, made where it does not exist: by root for the folder's owner, whose trainer goes on with it."""
    is_new = not path.exists()
    file = os.open(path, how | os.O_CREAT, 0o644)
    if is_new and os.geteuid() == 0:
        folder = path.parent.stat()
        os.fchown(file, folder.st_uid, folder.st_gid)
    return file


@contextmanager
def _explained(path: Path, what: str, fix: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        found = error.strerror or type(error).__name__
        logger.warning("%s %s: %s", what, path, found)
        raise DataError("SITE-E150", what, where=_where(path), found=found, fix=fix) from error
    except DataError as error:
        if error.code == "SITE-E115":
            logger.warning("%s is not as it was left: %s", path, error)
        raise


def _where(path: Path) -> str:
    """Return how errors name a file: they leave the hospital, and its path stays in the log."""
    return f"state of site.yaml: {path.name}"


@contextmanager
def _held(file: int, kind: int) -> Iterator[None]:
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


def _write_all(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

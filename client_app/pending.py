"""The studies that wait for this hospital's people: one file each, under ``pending`` in the state folder.

Their number is bounded, and one that waits is never pushed out by a newer one: where no place is left, the newer one
is not kept, and the refusal says so.
"""

import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from client_app.own_files import keep
from fedfm.config.compose import study_from_json, study_to_json
from fedfm.config.study import Study
from fedfm.errors import ConfigErrors, DataError

logger = logging.getLogger(__name__)

FOLDER = "pending"
MOST, LARGEST = 20, 1_000_000
"""Studies that wait at most, and bytes of one: a coordinator must not fill the hospital's disk."""


@dataclass(frozen=True)
class Waiting:
    """What waits, by hash, newest first.

    Attributes:
        studies: Those that can be read.
        unreadable: Why the others cannot be, by the name of the file without its ending.
    """

    studies: dict[str, Study]
    unreadable: dict[str, DataError]

    @property
    def is_full(self) -> bool:
        """Whether no further study can wait."""
        return len(self.studies) + len(self.unreadable) >= MOST


class Pending:
    """The folder. Several threads and processes may keep, read and remove at once.

    Args:
        state: The site's state folder.
    """

    def __init__(self, state: Path) -> None:
        self._folder = state / FOLDER
        self._lock = state / f"{FOLDER}.lock"

    def keep(self, study: Study, digest: str) -> str:
        """Keep a study for the hospital to look at, and return an empty text; or why it is not kept.

        Raises:
            DataError: It cannot be written.
        """
        path, content = self._folder / f"{digest}.json", study_to_json(study).encode()
        if path.exists():
            return ""
        if len(content) > LARGEST:
            return f"the study is larger than {LARGEST} bytes"
        with self._one_at_a_time():
            if not path.exists() and len(self._files()) >= MOST:
                logger.warning("a study is not kept: %d wait already, in %s", MOST, self._folder)
                return f"{MOST} others wait already"
            keep(path, content)
        return ""

    def remove(self, digest: str) -> None:
        """Let a study wait no longer."""
        (self._folder / f"{digest}.json").unlink(missing_ok=True)

    def waiting(self) -> Waiting:
        """Return what waits; one that cannot be read is named and stands in nobody's way."""
        studies: dict[str, Study] = {}
        unreadable: dict[str, DataError] = {}
        for path in self._files():
            try:
                studies[path.stem] = _read(path)
            except FileNotFoundError:
                continue  # somebody has decided about it just now
            except DataError as error:
                unreadable[path.stem] = error
        return Waiting(studies, unreadable)

    def _files(self) -> list[Path]:
        """Return the files, newest first."""
        return sorted(self._folder.glob("*.json"), key=_changed, reverse=True)

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Let nobody else look how many wait, and add one, meanwhile."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DataError(
                "SITE-E163",
                "a study that waits for approval cannot be kept",
                where="state of site.yaml",
                found=str(error.strerror),
                fix="free space, or give the trainer's user the right to write there",
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)


def _changed(path: Path) -> int:
    """Return when a file was changed; before all others where it has just gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


def _read(path: Path) -> Study:
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, type(error).__name__) from error
    if hashlib.sha256(text.encode()).hexdigest() != path.stem:
        raise _unreadable(path, "another hash than the file's name says")
    try:
        return study_from_json(text)
    except ConfigErrors as error:
        raise _unreadable(path, f"a study of another release ({error.code})") from error


def _unreadable(path: Path, found: str) -> DataError:
    return DataError(
        "SITE-E225",
        "a study that waits for approval cannot be read, or was changed",
        where=f"{FOLDER}/{path.name} in state of site.yaml",
        found=found,
        fix="remove the file; the study waits again when the coordinator asks the next time",
    )

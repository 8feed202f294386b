"""Whether a file is still as this process has left it or read it, by what the system says of it: no byte is read."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

_SETTLED = 10**9
"""Nanoseconds. A clock of a file system ticks; what is older than this was not written in the tick of now."""


@dataclass(frozen=True)
class Look:
    """What is compared: which file it is, its size in bytes, and when content and state last changed, in ns."""

    device: int
    inode: int
    size: int
    content_ns: int
    state_ns: int

    @property
    def is_settled(self) -> bool:
        """Whether a later write would look otherwise, because the clock of the file has moved on since the last one."""
        return time.time_ns() - max(self.content_ns, self.state_ns) > _SETTLED


def look(file: int | Path) -> Look | None:
    """Return how an open file, or the one at a path, looks; None where there is none."""
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return Look(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def marked(file: int) -> Look | None:
    """Set the time of an open file back by one nanosecond, so that no write gives it again, and return how it looks.

    Without that, a write in the same tick of the clock, of the same size, could not be seen. None where the system
    refuses, for another user's file.
    """
    try:
        found = os.stat(file)
        os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns - 1))
    except OSError:
        return None
    return look(file)

"""The state folder: can it be written, will it last, is there room, and is its clock right."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from client_app.doctor.examined import Examined
from client_app.doctor.places import file_system, nearest
from fedfm.findings import Finding

MODEL_BYTES = 91_000_000
"""Of the default model, where the size of the one that is used is not known."""

LOG_BYTES = 200_000_000
"""For ledger, audit log and checks of some years, and one round's temporary files."""

_LOST = ("tmpfs", "ramfs")
_LAYERED = ("overlay", "aufs", "fuse-overlayfs")
_MOST_OFF = 5.0  # seconds between the clock of the file system and this machine's


def findings(examined: Examined) -> Iterator[Finding]:
    """Yield what is to be said of the folder that holds ledger and audit log."""
    state = Path(examined.site.state)
    yield _kind(state)
    yield _room(state, _model_bytes(examined))
    place = nearest(state)
    try:
        age = _written_and_read(place)
    except OSError as error:
        why = error.strerror or type(error).__name__
        who = f"user {os.geteuid()}"
        fix = f"mount it writable, and let {who} write: chown {os.geteuid()} {place}"
        yield Finding("disk", "state", "fail", f"{who} cannot write and sync in {place}: {why}", "SITE-E150", fix)
        return
    made = "" if state.exists() else f"; {state} is not there yet, and will be made"
    yield Finding("disk", "state", "pass", f"written, synced and read again in {place}{made}")
    yield _clock(age)


def _written_and_read(folder: Path) -> float:
    """Return by how many seconds the file system's clock is behind; the file that was written is gone.

    Raises:
        OSError: It cannot be written, synced or read.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
        file.write(b"written to see whether it can be\n")
        file.flush()
        os.fsync(file.fileno())
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        return time.time() - os.stat(file.name).st_mtime


def _clock(behind: float) -> Finding:
    if abs(behind) > _MOST_OFF:
        way = "behind" if behind > 0 else "ahead of"
        what = f"the clock of the file system is {abs(behind):.0f} s {way} this machine's"
        return Finding("disk", "clock", "warn", what, "SITE-W041", "set the clock of the file server (NTP)")
    return Finding("disk", "clock", "pass", "the file system tells the same time as this machine")


def _kind(state: Path) -> Finding:
    point, kind = file_system(state)
    if not kind:
        return Finding("disk", "lasting", "skip", "this system does not list its file systems")
    if kind in _LOST:
        what = f"the state folder lies in memory ({kind} at {point}): the ledger would be lost with the machine's power"
        return Finding("disk", "lasting", "fail", what, "SITE-E042", "put state on a volume of a disk")
    if kind in _LAYERED:
        what = f"the state folder lies in a container's own layer ({kind} at {point}), removed with the container"
        return Finding("disk", "lasting", "warn", what, "SITE-W040", "mount a volume for state, and back it up")
    return Finding("disk", "lasting", "pass", f"the state folder lies on {kind}, at {point}")


def _room(state: Path, model: int) -> Finding:
    free, wanted = shutil.disk_usage(nearest(state)).free, 3 * model + LOG_BYTES
    told = f"{free / 1e9:.1f} GB free; {wanted / 1e9:.1f} GB wanted: three times the model, and logs"
    if free < wanted:
        return Finding("disk", "room", "fail", told, "SITE-E043", "free space, or put state on a larger volume")
    return Finding("disk", "room", "pass", told)


def _model_bytes(examined: Examined) -> int:
    """Return the size of the largest of the site's own weights, or of the default model."""
    files = (Path(folder) / "model.safetensors" for folder in examined.site.weights.values())
    return max((file.stat().st_size for file in files if file.is_file()), default=MODEL_BYTES)

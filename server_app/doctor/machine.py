"""The coordinator's machine: what it keeps, whether there is room for it, and what Flower would tell others."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from fedfm.findings import Finding
from server_app.doctor.asked import Asked

LEAST_FREE = 2_000_000_000
"""Bytes for some runs' checkpoints, and for the updates that the SuperLink holds in its database."""

FLOWER = "1.39."
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
"""What keeps Flower from calling its maker."""


def findings(asked: Asked) -> Iterator[Finding]:
    """Yield what is to be said of files, room and variables."""
    yield _database(asked.database)
    yield _writable("results", asked.results)
    yield _writable("memory", asked.memory)
    yield _room(asked)
    yield _flower(version("flwr"))
    yield _quiet(os.environ)


def _database(path: Path | None) -> Finding:
    if path is None:
        return Finding("machine", "database", "skip", "not named: give the SuperLink's file with --database")
    if not path.is_file():
        what = (
            f"there is no {path}: a SuperLink that keeps its state in memory forgets every admitted key when it stops"
        )
        return Finding("machine", "database", "warn", what, "RUN-W023", "start the SuperLink with --database FILE")
    mode = stat.S_IMODE(path.stat().st_mode)
    shut = not path.parent.stat().st_mode & stat.S_IXOTH
    if mode & stat.S_IRWXO and not shut:
        what = f"{path} holds updates of hospitals, and others than its owner may read or change it (mode {mode:04o})"
        return Finding("machine", "database", "fail", what, "RUN-E023", f"chmod o-rwx {path}, and the folder above")
    return Finding("machine", "database", "pass", f"{path}, not open to others")


def _writable(check: str, folder: Path) -> Finding:
    there = _nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=there):
            return Finding("machine", check, "pass", f"{folder} can be written")
    except OSError as error:
        what = f"{folder} cannot be written: {error.strerror or type(error).__name__}"
        fix = f"give this user the right to write in {there}, or name another (FEDFM_RESULTS, FEDFM_MEMORY)"
        return Finding("machine", check, "fail", what, "RUN-E024", fix)


def _room(asked: Asked) -> Finding:
    places = [asked.results, asked.memory, *([asked.database] if asked.database else [])]
    free = min(shutil.disk_usage(_nearest(place)).free for place in places)
    told = f"{free / 1e9:.1f} GB free"
    if free < LEAST_FREE:
        what = f"{told}; a study may need {LEAST_FREE / 1e9:.0f} GB or more"
        return Finding("machine", "room", "warn", what, "RUN-W024", "free space, or name folders on another disk")
    return Finding("machine", "room", "pass", told)


def _flower(release: str) -> Finding:
    if not release.startswith(FLOWER):
        what = f"Flower {release} is installed; hospitals speak {FLOWER}x, the last with a gRPC Fleet API"
        return Finding("machine", "Flower", "fail", what, "RUN-E025", "pip install 'flwr>=1.39,<1.40'")
    return Finding("machine", "Flower", "pass", release)


def _quiet(environment: Mapping[str, str]) -> Finding:
    missing = [f"{name}={value}" for name, value in QUIET.items() if environment.get(name) != value]
    if missing:
        what = "Flower calls its maker from this machine: telemetry, or a look for updates, is on"
        return Finding(
            "machine", "telemetry", "warn", what, "RUN-W025", f"set {' '.join(missing)}, also for the SuperLink"
        )
    return Finding("machine", "telemetry", "pass", "off")


def _nearest(path: Path) -> Path:
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.is_dir())

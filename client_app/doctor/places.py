"""Where files lie and who may touch them: what several groups of checks ask."""

import os
import re
import stat
from pathlib import Path

_CONTAINER = (Path("/.dockerenv"), Path("/run/.containerenv"))
_MOUNTS = Path("/proc/self/mounts")
_MOUNTINFO = Path("/proc/self/mountinfo")
_VOLUME = re.compile(r"/volumes/[^/]+/_data(/|$)")  # of an engine, below a folder that it keeps for itself


def in_container() -> bool:
    """Whether this process runs in a container of Docker or Podman."""
    return any(mark.exists() for mark in _CONTAINER)


def is_changed_by_others(path: Path) -> bool:
    """Whether any user of the machine may change the file, or put another in its place."""
    above = path.parent.stat().st_mode
    return bool(path.stat().st_mode & stat.S_IWOTH or (above & stat.S_IWOTH and not above & stat.S_ISVTX))


def is_read_by_others(path: Path) -> bool:
    """Whether any user of the machine may read the file: by its own rights, and those of every folder above."""
    reached = all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)
    return reached and bool(path.stat().st_mode & stat.S_IROTH)


def is_on_volume(path: Path) -> bool:
    """Whether the path lies on a named volume of a container engine, and not in a folder of the host's people."""
    lines = _MOUNTINFO.read_text(encoding="utf-8", errors="replace").splitlines() if _MOUNTINFO.exists() else []
    mounted = {fields[4]: fields[3] for fields in (line.split(" ") for line in lines)}
    place = path.resolve()
    points = [str(point) for point in (place, *place.parents) if str(point) in mounted]
    return bool(points) and bool(_VOLUME.search(mounted[points[0]]))


def nearest(path: Path) -> Path:
    """Return the path, or the nearest folder above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())


def file_system(path: Path) -> tuple[str, str]:
    """Return where the file system that holds the path is mounted, and its kind; empty where that is not known."""
    found = ("", "")
    place = str(nearest(path).resolve())
    for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines() if _MOUNTS.exists() else ():
        point, kind = line.split(" ")[1:3]
        point = point.encode().decode("unicode_escape")  # a blank is written \040
        if os.path.commonpath([point, place]) == point and len(point) >= len(found[0]):
            found = point, kind  # of equal ones the last was mounted over the others
    return found

"""How long a site keeps checks and checked models: they are of single patients, and of no use for ever."""

import datetime
import logging
import re
from pathlib import Path

from client_app.asked import Round
from client_app.own_files import is_draft
from client_app.reasons import check_history, checked_model
from client_app.reasons.kept_json import parsed

logger = logging.getLogger(__name__)

_DAY = 24 * 60 * 60
_FIELDS = {"check": check_history.FIELDS, "checked": checked_model.FIELDS}
# .partial here: a draft of an earlier release
_NAMES = re.compile(r"(check)-\d+-[0-9a-f]{16}\.(json|partial)|(checked)-[0-9a-f]{16}\.(model|partial)", re.ASCII)


def remove_old(asked: Round, *, now: datetime.datetime) -> None:
    """Remove checks and models of other runs that are older than ``explanations.keep_days``; the log says how many.

    Drafts too, of any file that stays at the site: a process that died has left them, whichever run it was in.

    Args:
        asked: The request; files of its run stay, however old.
        now: In UTC.

    Guarantees:
        Nothing else in the state folder is touched. What cannot be removed is said in the log, and stops nothing.
    """
    days, removed, left = asked.site.explanations.keep_days, 0, 0
    since = now.timestamp() - days * _DAY
    for path, kind in _of_other_files(asked):
        try:
            if path.is_file() and _is_old(path, kind, asked.request.run, since=since, now=now):
                path.unlink(missing_ok=True)
                removed += 1
        except OSError:
            left += 1
    if removed:
        logger.info("%d kept checks and models, older than %d days, have been removed", removed, days)
    if left:
        logger.warning("%d kept checks or models cannot be looked at or removed: see who owns them", left)


def _of_other_files(asked: Round) -> list[tuple[Path, str]]:
    """Return what has the name of a check or a checked model, with its kind, but not that of a file of the run."""
    of_run = {asked.kept("checked", suffix).name for suffix in (".model", ".partial")}
    for number in range(1, asked.study.rounds + 1):
        of_run |= {asked.kept(f"check-{number}", suffix).name for suffix in (".json", ".partial")}
    try:
        paths = list(Path(asked.site.state).iterdir())
    except OSError as error:
        logger.warning("the state folder cannot be listed (%s): old checks and models stay", error.strerror)
        return []
    named = ((path, _kind(path.name)) for path in paths if path.name not in of_run)
    return [(path, kind) for path, kind in named if kind]


def _kind(name: str) -> str:
    """Return ``check``, ``checked`` or ``draft``; empty for a file of another kind."""
    if is_draft(name):
        return "draft"
    found = _NAMES.fullmatch(name)
    return (found[1] or found[3]) if found else ""


def _is_old(path: Path, kind: str, run: str, *, since: float, now: datetime.datetime) -> bool:
    written, of = _written(path, kind, now=now)
    return of != run and written < since


def _written(path: Path, kind: str, *, now: datetime.datetime) -> tuple[float, str]:
    """Return when a file was written, in seconds since 1970, and its run, as its first line says.

    Where that cannot be read, or lies in the future, the time is that of the file, which a copy may have changed.
    """
    changed = path.stat().st_mtime
    if kind == "draft":
        return changed, ""
    try:
        with path.open("rb") as file:
            told = parsed(file.readline().decode(), _FIELDS[kind])
        time = datetime.datetime.fromisoformat(told["time"])
    except (OSError, ValueError):
        return changed, ""
    written = (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp()
    return (written if written <= now.timestamp() else changed), told["run"]

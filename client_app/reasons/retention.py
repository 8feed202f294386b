"""How long a site keeps checks and checked models: they are of single patients, and of no use for ever."""

import datetime
import logging
import re
from pathlib import Path

from client_app.asked import Round
from client_app.reasons import check_history, checked_model
from client_app.reasons.kept_json import parsed

logger = logging.getLogger(__name__)

_DAY = 24 * 60 * 60
_FIELDS = {"check": check_history.FIELDS, "checked": checked_model.FIELDS}
_NAMES = re.compile(r"(check)-\d+-[0-9a-f]{16}\.(json|partial)|(checked)-[0-9a-f]{16}\.(model|partial)", re.ASCII)


def remove_old(asked: Round, *, now: datetime.datetime) -> None:
    """Remove checks and models of other runs that are older than ``explanations.keep_days``; the log says how many.

    Args:
        asked: The request; files of its run stay, however old.
        now: In UTC.

    Guarantees:
        Nothing else in the state folder is touched. What cannot be removed is said in the log, and stops nothing.
    """
    days, removed, left = asked.site.explanations.keep_days, 0, 0
    of_run = {asked.kept("checked", suffix).name for suffix in (".model", ".partial")}
    for number in range(1, asked.study.rounds + 1):
        of_run |= {asked.kept(f"check-{number}", suffix).name for suffix in (".json", ".partial")}
    for path in Path(asked.site.state).iterdir():
        kind = _NAMES.fullmatch(path.name)
        if kind is None or path.name in of_run or not path.is_file():
            continue
        try:
            written, run = _written(path, kind[1] or kind[3], now=now)
            if run != asked.request.run and now.timestamp() - written > days * _DAY:
                path.unlink(missing_ok=True)
                removed += 1
        except OSError:
            left += 1
    if removed:
        logger.info("%d kept checks and models, older than %d days, have been removed", removed, days)
    if left:
        logger.warning("%d kept checks or models cannot be looked at or removed: see who owns them", left)


def _written(path: Path, kind: str, *, now: datetime.datetime) -> tuple[float, str]:
    """Return when a file was written, in seconds since 1970, and its run, as its first line says.

    Where that cannot be read, or lies in the future, the time is that of the file, which a copy may have changed.
    """
    changed = path.stat().st_mtime
    try:
        with path.open("rb") as file:
            told = parsed(file.readline().decode(), _FIELDS[kind])
        time = datetime.datetime.fromisoformat(told["time"])
    except (OSError, ValueError):
        return changed, ""
    written = (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp()
    return (written if written <= now.timestamp() else changed), told["run"]

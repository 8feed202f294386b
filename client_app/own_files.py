"""What a site keeps of its patients in its state folder alone: models, figures and tables, some without noise.

They deserve the protection of the notes: readable by the trainer's user alone, and never part of an answer.
"""

import os
import re
import secrets
import time
from pathlib import Path

from fedfm.arrays import Arrays, from_bytes, to_bytes
from fedfm.errors import DataError, WireError

_ABANDONED = 60 * 60
"""Seconds after which a draft is one of a process that has died: no write takes as long."""

_DRAFT = re.compile(r".+\.[0-9a-f]{16}\.partial", re.ASCII)


def is_draft(name: str) -> bool:
    """Whether ``keep`` gives such a name to a file that is not whole yet."""
    return _DRAFT.fullmatch(name) is not None


def ledger_name(cohort: str) -> str:
    """Return the name of a cohort's ledger in the state folder."""
    return f"ledger-{cohort}.jsonl"


def keep(path: Path, data: bytes) -> None:
    """Write the file whole, or leave the one that was there.

    Guarantees:
        Several threads and processes may write the same file at once: each has a draft of its own, and what stands
        there afterwards is what one of them wrote. After an error no draft is left; after a crash the next write of
        the file removes it, an hour later.

    Raises:
        DataError: It cannot be written.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)  # gone already where it was renamed
    except OSError as error:
        raise DataError(
            "SITE-E163",
            "a model, figures or a table that stay at the site cannot be kept",
            where="state of site.yaml",
            found=str(error.strerror),
            fix="free space, or give the trainer's user the right to write there",
        ) from error


def _remove_abandoned(path: Path) -> None:
    for old in path.parent.iterdir():
        if old.name.startswith(f"{path.name}.") and is_draft(old.name) and _age(old) > _ABANDONED:
            old.unlink(missing_ok=True)


def _age(path: Path) -> float:
    """Return the seconds since a file was changed; 0 where it has just gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def keep_model(path: Path, parameters: Arrays) -> None:
    """Keep a model's trained parameters as safetensors; raises like ``keep``."""
    keep(path, to_bytes(parameters))


def kept_model(path: Path) -> Arrays | None:
    """Return the parameters that are kept there; None where there are none yet.

    Raises:
        DataError: The file is damaged, or may not be read.
    """
    try:
        return from_bytes(path.read_bytes()) if path.exists() else None
    except (OSError, WireError) as error:
        raise DataError(
            "SITE-E165",
            "a model that stays at the site cannot be read",
            where=path.name,
            fix="put back a copy of the file, or remove it; it is then trained anew",
        ) from error

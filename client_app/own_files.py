"""What a site keeps of its patients in its state folder alone: models, figures and tables, some without noise.

They deserve the protection of the notes: readable by the trainer's user alone, and never part of an answer.
"""

import os
from pathlib import Path

from fedfm.arrays import Arrays, from_bytes, to_bytes
from fedfm.errors import DataError, WireError


def ledger_name(cohort: str) -> str:
    """Return the name of a cohort's ledger in the state folder."""
    return f"ledger-{cohort}.jsonl"


def keep(path: Path, data: bytes) -> None:
    """Write the file whole, or leave the one that was there.

    Raises:
        DataError: It cannot be written.
    """
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise DataError(
            "SITE-E163",
            "a model, figures or a table that stay at the site cannot be kept",
            where="state of site.yaml",
            found=str(error.strerror),
            fix="free space, or give the trainer's user the right to write there",
        ) from error


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

"""Files that only their owner may read: keys and shared secrets."""

import os
import secrets
from pathlib import Path


def make_secret(path: Path) -> Path:
    """Write 32 random bytes (base64) by which a SuperLink or SuperNode knows its executor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, secrets.token_urlsafe(32).encode())
    return path


def write_private(path: Path, content: bytes) -> None:
    """Write a new file with mode 0600 from the first byte on.

    Raises:
        FileExistsError: There is one already; a key is never overwritten.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)

"""Files that only their owner may read: keys, shared secrets, and pages for one side's own people."""

import os
import secrets
import tempfile
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


def replace_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 whole, in the place of one that may be there, or leave all as it was.

    Raises:
        OSError: It cannot be written.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:  # of mode 0600
        try:
            file.write(content)
            file.flush()
            os.replace(file.name, path)
        except OSError:
            Path(file.name).unlink()
            raise

"""Files in the site's state folder that are written once and whole: what a run has paid for, or has said.

Of a study without a mechanism they are exact.
"""

from collections.abc import Callable
from pathlib import Path

from client_app.own_files import keep


def written_once(path: Path, make: Callable[[], str]) -> str:
    """Return the text kept at ``path``, or make it now and keep it, on disk before it is used.

    Guarantees:
        The trainer's user alone may read it.

    Raises:
        DataError: It cannot be written.
    """
    if path.exists():
        return path.read_text(encoding="utf-8")
    text = make()
    keep(path, text.encode())
    return text

"""Files in the site's state folder that are written once and whole: what a run has paid for, or has said."""

import os
from collections.abc import Callable
from pathlib import Path


def written_once(path: Path, make: Callable[[], str]) -> str:
    """Return the text kept at ``path``, or make it now and keep it, on disk before it is used."""
    if path.exists():
        return path.read_text(encoding="utf-8")
    text = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return text

"""A file of JSON lines, each written in one piece and on disk before anybody acts on it."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def append_line(path: Path, document: dict[str, Any]) -> None:
    """Write one line whole or not at all; infinity becomes the text ``"Infinity"``, and not-a-number is an error.

    Raises:
        OSError: The disk took none of it, or a part only, which is taken back, so that the next line stands alone.
    """
    line = (json.dumps(_plain(document), ensure_ascii=False, allow_nan=False) + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        before = os.fstat(descriptor).st_size
        try:
            while line:  # a write may be short, as on a disk that is nearly full
                line = line[os.write(descriptor, line) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Return each line with its 1-based number; what follows the last line break was cut off by a crash.

    They come as bytes: the cut may be inside a character, and a line that is no text is the reader's to name.
    """
    return enumerate(path.read_bytes().split(b"\n")[:-1], start=1)


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return ``value`` with infinities as text."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return "Infinity" if value == math.inf else value

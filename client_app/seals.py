"""Lines that seal the line before: made, verified, and finished where a crash cut the last one short."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from fedfm.errors import DataError

START = "0" * 64
"""What the first line has in the place of a seal before it."""


def sealed(entry: Mapping[str, Any], *, number: int, previous: str) -> bytes:
    """Return the line of an entry: JSON with its ``n``, the seal before and its own, and a line feed."""
    body = {**entry, "n": number, "previous": previous}
    return line_of({**body, "seal": _seal(body)})


def line_of(entry: Mapping[str, Any]) -> bytes:
    """Return the line of a whole entry: the only way to write it that is read."""
    return json.dumps(entry, sort_keys=True).encode() + b"\n"


def verified(
    content: bytes, previous: str, *, first: int, where: str, offset: int = 0
) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each entry of ``content`` from ``offset`` on, and the offset of its end.

    Args:
        content: Bytes of the file.
        previous: Seal of the line before, or ``START``.
        first: Number of the first entry.
        where: What errors call the file; it leaves the hospital where this is one of its own.
        offset: Begin of the first line.

    Raises:
        DataError: A line does not follow from the one before, or the last is not complete.
    """
    number = first
    while (end := content.find(b"\n", offset) + 1) > 0:
        entry = _follower(content[offset:end], number, previous)
        if entry is None:
            raise damaged("the file was edited, cut or damaged", where, number)
        yield entry, end
        number, previous, offset = number + 1, str(entry["seal"]), end
    if offset < len(content):
        raise damaged("the last line is not complete", where, number)


def recovered(content: bytes, draft: bytes) -> bytes:
    """Return ``content`` with the line that a crash cut short, or had not begun to write, taken from its draft.

    A draft is whole before the first byte of its line is written, so that the torn line of a crash is always the
    beginning of a whole draft. Anything else stays as it is, for ``verified`` to refuse.
    """
    torn = content[content.rfind(b"\n") + 1 :]
    whole = content[: len(content) - len(torn)]
    last = _parsed(whole[whole.rfind(b"\n", 0, -1) + 1 :]) if whole else {"n": 0, "seal": START}
    drafted = _drafted(draft)
    follows = bool(drafted) and last.get("n") == drafted["n"] - 1 and last.get("seal") == drafted["previous"]
    return whole + draft if follows and draft.startswith(torn) else content


def written_before(draft: bytes) -> int:
    """Return how many lines were written before this draft of the next; 0 where it is not whole.

    A draft that is not whole was cut short before its line was begun, and says nothing.
    """
    drafted = _drafted(draft)
    return int(drafted["n"]) - 1 if drafted else 0


def damaged(what: str, where: str, number: int = 0) -> DataError:
    """Return the error of a file that may not be gone on with; ``number`` is that of a line, or 0 for the file."""
    return DataError(
        "SITE-E115",
        what,
        where=f"{where}:{number}" if number else where,
        fix="restore it from a backup that is at least as new, and start the trainer again; never delete it",
    )


def _follower(line: bytes, number: object, previous: object) -> dict[str, Any] | None:
    """Return the entry of a line if it is the one of this number, follows from that seal, and is written as we write.

    Another way to write the same entry is an edit as well: a seal of what it says would not notice a blank more.
    """
    entry = _parsed(line)
    seal = entry.pop("seal", None)
    if entry.get("previous") != previous or entry.get("n") != number or seal != _seal(entry):
        return None
    whole = {**entry, "seal": seal}
    return whole if line == line_of(whole) else None


def _drafted(draft: bytes) -> dict[str, Any]:
    """Return the entry of a whole draft, else an empty one."""
    entry = _parsed(draft) if draft.endswith(b"\n") else {}
    number = entry.get("n")
    whole = isinstance(number, int) and _follower(draft, number, entry.get("previous")) is not None
    return entry if whole else {}


def _seal(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):  # of the text, its encoding, or how deeply it is nested
        return {}
    return entry if isinstance(entry, dict) else {}

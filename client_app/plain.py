"""Names and texts that somebody else chose, on one line of a person's screen."""

import hashlib

_LONGEST = 600


def plain(text: str, *, most: int = _LONGEST) -> str:
    """Return a text on one line, with nothing in it that a terminal acts on or that hides or turns what follows.

    Of a long one the beginning: it must not scroll the rest of the page away. Its hash tells it from others.
    """
    line = "".join(letter if letter.isprintable() else "·" for letter in " ".join(text.split()))
    if len(line) <= most:
        return line
    return f"{line[: most - 20]}... ({len(text)} letters, {hashlib.sha256(text.encode()).hexdigest()[:8]})"

"""Text that somebody else wrote, on this screen and in these pages: it may neither steer the terminal nor hide."""

import re
from collections.abc import Iterator, Sequence

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Control characters but tab and line feed; those that turn the direction of writing; halves of characters."""


def readable(text: str) -> str:
    """Return the text with a replacement character for each that would not be shown as it is."""
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def readable_line(text: str) -> str:
    """Return the text as ``readable`` does, on one line: a name must not look like another line either."""
    return " ".join(readable(text).split())


def pieces(text: str, names: Sequence[str]) -> Iterator[tuple[str, int | None]]:
    """Yield the whole text in parts: each word that the model reads with its place, and what is between and after.

    Words are as written and in order; between two of them is only what the tokenizer leaves out.
    """
    end = 0
    for place, name in enumerate(names):
        start = text.index(name, end)
        if start > end:
            yield text[end:start], None
        end = start + len(name)
        yield name, place
    if end < len(text):
        yield text[end:], None


def unread(text: str, names: Sequence[str]) -> int:
    """Return how many characters are after the last word that the model reads, spaces at the ends aside."""
    *_, (tail, place) = [("", 0), *pieces(text, names)]
    return len(tail.strip()) if place is None else 0

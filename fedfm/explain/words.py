"""Credits of words, and where words and phrases stand.

A word is what the tokenizers of the BERT family split a text into before they cut it into pieces: whitespace parts
words, each mark of punctuation and each Chinese character is one by itself. Phrases are split alike, so that
"x-ray" stands in "X-ray" and in "x - ray", which the model reads as the same.
"""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedfm.explain.attribution import Attribution
from fedfm.model.classifier import Inputs

Credits = NDArray[np.float64]

_SYMBOLS = "$+<=>^`|~"  # of ASCII; BERT parts at them as well, though Unicode counts them as symbols
_PUNCTUATION = "".join(c for c in map(chr, range(0x10000)) if unicodedata.category(c)[0] == "P") + _SYMBOLS
_ALONE = re.escape(_PUNCTUATION) + "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
WORD = re.compile(rf"[{_ALONE}]|[^\s{_ALONE}]+")
"""One word of a text."""


def word_credits(attributed: Attribution, inputs: Inputs, row: int) -> Credits:
    """Return float64[W]: for each of ``inputs.names[row]`` the sum of the credits of the units it is made of.

    A credit that is not finite counts as 0: a model that overflows has no reasons.
    """
    words = inputs.words[row].cpu().numpy()
    of_units = finite(attributed.credits[row].detach().cpu().numpy().astype(np.float64))
    summed = np.zeros(len(inputs.names[row]))
    np.add.at(summed, words[words >= 0], of_units[words >= 0])
    return summed


def shares(credits_: Credits) -> Credits:
    """Return float64[W]: each word's share of all credit, whatever its sign; all 0 where there is no credit."""
    size = np.abs(finite(credits_))
    largest = size.max(initial=0.0)
    if largest == 0:
        return size
    size = size / largest  # so that the sum can neither overflow nor vanish
    part: Credits = size / size.sum()
    return part


def finite(credits_: Credits) -> Credits:
    """Return the credits with 0 for those that are not finite."""
    kept: Credits = np.where(np.isfinite(credits_), credits_, 0.0)
    return kept


def occurrences(names: Sequence[str], phrases: Sequence[str]) -> list[list[int]]:
    """Return the places of the words of each occurrence of any phrase, in reading order.

    Whole words only, in any case; occurrences do not overlap: the first in the text wins, and of those that begin at
    one word the longest. A phrase without a word stands nowhere.
    """
    return [places for _, places in matches(names, phrases)]


def matches(names: Sequence[str], phrases: Sequence[str]) -> list[tuple[int, list[int]]]:
    """Return for each occurrence which phrase it is of, the first of equal ones, and the places of its words."""
    by_first = _longest_first(phrases)
    parts = [(part, place) for place, name in enumerate(names) for part in normal(name)]
    # A name may have several parts, as a column heart_rate has, and a phrase begins and ends with a name.
    begins = [at == 0 or parts[at - 1][1] != place for at, (_, place) in enumerate(parts)] + [True]
    found: list[tuple[int, list[int]]] = []
    at = 0
    while at < len(parts):
        for which, phrase in by_first.get(parts[at][0], ()) if begins[at] else ():
            end = at + len(phrase)
            if end <= len(parts) and begins[end] and tuple(part for part, _ in parts[at:end]) == phrase:
                found.append((which, sorted({place for _, place in parts[at:end]})))
                at = end
                break
        else:
            at += 1
    return found


def normal(phrase: str) -> tuple[str, ...]:
    """Return the words of a text or phrase in the form in which they are compared; empty where it has none."""
    return tuple(unicodedata.normalize("NFC", word.casefold()) for word in WORD.findall(phrase))


def _longest_first(phrases: Sequence[str]) -> dict[str, list[tuple[int, tuple[str, ...]]]]:
    """Return first word to the phrases that begin with it and their places in the list, longest first."""
    by_first: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
    for which, phrase in enumerate(phrases):
        if words := normal(phrase):
            by_first.setdefault(words[0], []).append((which, words))
    for listed in by_first.values():
        listed.sort(key=lambda found: -len(found[1]))
    return by_first

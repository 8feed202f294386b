"""The header of a safetensors document, judged before anything is allocated by what it claims."""

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fedfm.errors import WireError

LARGEST_HEADER = 4 * 2**20
"""Bytes; a model of 200 trained arrays has a header of 30,000."""

MOST_DIMENSIONS, LONGEST_NAME = 8, 300

_BYTES = 4  # of a float32
_MOST_NUMBERS = 2**40
_KEYS = {"dtype", "shape", "data_offsets"}
_OF_PEFT = {"format": "pt"}


@dataclass(frozen=True)
class Place:
    """Where the numbers of an array lie in a document, in bytes, and its shape."""

    begin: int
    end: int
    shape: tuple[int, ...]


def places(data: bytes) -> dict[str, Place]:
    """Return where each array of a whole safetensors document of float32 arrays, and of nothing else, lies.

    The arrays lie one after the other, as the shapes say, to the last byte: whoever allocates by the header allocates
    no more than was received. Names are given once; there is no metadata but what PEFT's own files have.

    Raises:
        WireError: It is not; says in which way, with no word of the document but a type's name.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 0 < size <= min(len(data) - 8, LARGEST_HEADER):
        raise _unreadable(data, "no header of a size that can be")
    try:
        header = json.loads(data[8 : 8 + size].decode(), object_pairs_hook=_once, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise _unreadable(data, "a header that cannot be read") from error
    if not isinstance(header, dict):
        raise _unreadable(data, "a header that names no arrays")
    if header.pop("__metadata__", _OF_PEFT) != _OF_PEFT:
        raise _unreadable(data, "more than arrays")
    found = {name: _place(name, told, data, start=8 + size) for name, told in header.items()}
    spans = [(8 + size, 8 + size), *sorted((place.begin, place.end) for place in found.values()), (len(data), 0)]
    if any(begin != end for (_, end), (begin, _) in pairwise(spans)):
        raise _unreadable(data, "arrays that do not lie one after the other to its end")
    return found


def check_float32(name: str, dtype: str) -> None:
    """Refuse an array of another type; ``dtype`` is a name of numpy.

    Raises:
        WireError: With the array's name, as far as it is short.
    """
    if dtype != "float32":
        raise WireError("WIRE-E013", f"the array {name[:80]} is not float32", found=dtype[:20], allowed="float32")


def _place(name: str, told: Any, data: bytes, *, start: int) -> Place:  # noqa: ANN401 - any JSON value
    if not isinstance(told, dict) or set(told) != _KEYS or len(name) > LONGEST_NAME:
        raise _unreadable(data, "an array without type, shape or place, or with more than these")
    if not isinstance(told["dtype"], str):
        raise _unreadable(data, "an array of no type")
    if told["dtype"] != "F32":
        check_float32(name, told["dtype"])
    shape, offsets = told["shape"], told["data_offsets"]
    if not (_are_counts(shape, MOST_DIMENSIONS) and _are_counts(offsets, 2) and len(offsets) == 2):
        raise _unreadable(data, "an array of a shape or a place that cannot be")
    begin, end = offsets
    # of an empty array, too, numpy multiplies the other dimensions
    if math.prod(max(1, size) for size in shape) > _MOST_NUMBERS or end - begin != _BYTES * math.prod(shape):
        raise _unreadable(data, "an array whose shape and size do not fit each other")
    return Place(start + begin, start + end, tuple(shape))


def _are_counts(value: object, most: int) -> bool:
    """Whether it is a list of at most so many whole numbers of 0 or more."""
    return isinstance(value, list) and len(value) <= most and all(type(one) is int and one >= 0 for one in value)


def _once(items: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(items)) != len(items):
        raise ValueError("a name is given twice")
    return dict(items)


def _refused(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _unreadable(data: bytes, what: str) -> WireError:
    return WireError(
        "WIRE-E012",
        "the parameters cannot be read",
        found=f"{len(data)} bytes with {what}",
        allowed="a whole safetensors document with float32 arrays alone",
        fix="send the message again; if it persists, compare the fedfm versions of both ends",
    )

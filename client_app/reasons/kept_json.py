"""JSON that this site has kept, read again: a file that was damaged, or changed by hand, is refused as a whole."""

import json
from typing import Any

LARGEST = 1e100
"""No figure is as large; sums and differences of numbers up to it stay finite."""


def parsed(text: str, kind: Any) -> Any:  # noqa: ANN401 - JSON
    """Return what the text holds.

    Args:
        text: JSON.
        kind: What it must be; as in ``is_of``.

    Raises:
        ValueError: It is no JSON, or anything in it is not of its kind.
    """
    try:
        told = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not is_of(told, kind):
        raise ValueError("not of the types that are kept")
    return told


def is_of(value: object, kind: Any) -> bool:  # noqa: ANN401 - a type, or some in a list, dict or tuple
    """Return whether a value is of a kind, all that is in it included.

    Args:
        value: As JSON gives it.
        kind: A type, of which ``float`` takes every number up to ``LARGEST``; ``[kind]`` for a list; ``{name: kind}``
            for exactly these fields; ``{str: kind}`` for any names; ``(kind, kind)`` for one of several.
    """
    if isinstance(kind, tuple):
        return any(is_of(value, one) for one in kind)
    if isinstance(kind, list):
        return isinstance(value, list) and all(is_of(one, kind[0]) for one in value)
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            return False
        fields = dict.fromkeys(value, kind[str]) if str in kind else kind
        return value.keys() == fields.keys() and all(is_of(value[name], of) for name, of in fields.items())
    if kind is float:
        return isinstance(value, int | float) and type(value) is not bool and abs(value) <= LARGEST
    return type(value) is kind  # exactly: True is no integer

"""JSON values become instances of annotated types, strictly: nothing is converted by guessing."""

import math
import types
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints


def typed(form: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - any field of an event
    """Return ``value`` as an instance of the annotated type ``form``; raises TypeError where it is not one."""
    arguments = get_args(form)
    if form is Any:
        return value
    if is_dataclass(form):
        return _fields(form, value, where)
    if get_origin(form) in (Union, types.UnionType):  # only "X | None" stands in an event
        return None if value is None else typed(arguments[0], value, where)
    if get_origin(form) is dict:
        return {name: typed(arguments[1], item, f"{where}.{name}") for name, item in _is(dict, value, where).items()}
    if get_origin(form) is tuple:
        return tuple(typed(arguments[0], item, where) for item in _is(list, value, where))
    return _number(value, where) if form is float else _is(form, value, where)


def _fields(form: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - any dataclass of an event
    hints, names = get_type_hints(form), {field.name for field in fields(form)}
    required = {field.name for field in fields(form) if field.default is MISSING}
    if not required <= set(_is(dict, value, where)) <= names:  # an older run may lack a field that came later
        raise TypeError(f"{where}: fields differ in {sorted(set(value) ^ names)}")
    return form(**{name: typed(hints[name], item, f"{where}.{name}") for name, item in value.items()})


def _number(value: object, where: str) -> float:
    if value == "Infinity":
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{where}: {type(value).__name__} instead of a number")
    return float(value)


def _is(form: type, value: Any, where: str) -> Any:  # noqa: ANN401 - any JSON value
    if type(value) is not form:
        raise TypeError(f"{where}: {type(value).__name__} instead of {form.__name__}")
    return value

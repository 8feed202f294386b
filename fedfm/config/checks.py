"""Read plain values into a schema, strictly: nothing is converted by guessing, every problem is kept."""

import math
import re
import unicodedata
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, fields, is_dataclass
from itertools import islice
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from fedfm.config.problems import Problems, did_you_mean, shown
from fedfm.config.settings import REQUIRED

_DEEPEST = 6  # of maps and lists inside one value
_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_EXAMPLES = {int: "3", float: "3.0", bool: "true"}


def build(schema: type[Any], tree: object, problems: Problems, *, path: str = "") -> Any:  # noqa: ANN401 - a schema's instance
    """Make the schema's instance from plain maps, lists and scalars.

    Where a value cannot be used the problem is kept and its default stands in, so that
    checks of other settings can go on; use the instance only where there is no problem.

    Args:
        schema: A dataclass of settings.
        tree: What a YAML file, an override or a message said.
        problems: Where problems are added.
        path: Setting path of ``tree``; empty for the whole.
    """
    if not isinstance(tree, dict):
        if tree is not None:
            problems.add("E003", "must be a map of settings", path=path, found=shown(tree), allowed="key: value")
        tree = {}
    kinds = get_type_hints(schema)
    known = {entry.name: entry for entry in fields(schema)}
    _add_unknown(tree, tuple(known), path, problems)
    return schema(
        **{
            name: _setting(entry, kinds[name], tree, f"{path}.{name}" if path else name, problems)
            for name, entry in known.items()
        }
    )


def _add_unknown(tree: dict[Any, Any], known: tuple[str, ...], path: str, problems: Problems) -> None:
    for key in islice((key for key in tree if key not in known), 20):
        word = str(key)[:80]
        elsewhere = [setting for setting in problems.settings if setting.rpartition(".")[2] == word]
        near = f"did you mean {elsewhere[0]}?" if elsewhere else did_you_mean(word, known)
        problems.add(
            "E001",
            f"unknown key {word!a}",
            path=f"{path}.{word}" if path else word,
            allowed=", ".join(known),
            fix=near or "remove it",
        )


def _setting(entry: Field[Any], kind: Any, tree: dict[Any, Any], path: str, problems: Problems) -> Any:  # noqa: ANN401
    if is_dataclass(kind):
        return build(kind, tree.get(entry.name), problems, path=path)  # type: ignore[arg-type]
    raw = tree.get(entry.name, REQUIRED)
    if raw == REQUIRED or (raw is None and entry.default == REQUIRED):
        if entry.default == REQUIRED:
            meaning = entry.metadata["meaning"]
            problems.add("E002", f"`{path}` is required", path=path, allowed=meaning, fix=f"add `{entry.name}:`")
        elif entry.name in tree:  # what was left open must not come back as a default
            problems.add("E003", f"{REQUIRED} is no value", path=path, fix="write the value, or leave the line out")
        return _default(entry)
    return _value(kind, raw, path, entry, problems)


def _default(entry: Field[Any]) -> Any:  # noqa: ANN401
    return entry.default if entry.default_factory is NO_DEFAULT else entry.default_factory()


def _value(kind: Any, raw: object, path: str, entry: Field[Any], problems: Problems) -> Any:  # noqa: ANN401
    origin = get_origin(kind)
    if kind is Any:
        return _plain(raw, path, problems)
    if is_dataclass(kind):
        return build(kind, raw, problems, path=path)  # type: ignore[arg-type]
    if origin is list:
        return _list(get_args(kind)[0], raw, path, entry, problems)
    if origin is dict:
        return _map(get_args(kind)[1], raw, path, entry, problems)
    if origin is UnionType:
        if raw is None:
            return None
        kind = next(part for part in get_args(kind) if part is not NoneType)
    return _scalar(kind, raw, path, entry, problems)


def _list(kind: Any, raw: object, path: str, entry: Field[Any], problems: Problems) -> list[Any]:  # noqa: ANN401
    if not isinstance(raw, list):
        problems.add("E003", "must be a list", path=path, found=shown(raw), fix="write [a, b]")
        return []
    return [_value(kind, item, f"{path}.{number}", entry, problems) for number, item in enumerate(raw)]


def _map(kind: Any, raw: object, path: str, entry: Field[Any], problems: Problems) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(raw, dict):
        problems.add("E003", "must be a map", path=path, found=shown(raw), fix="write {key: value}")
        return {}
    return {
        _key(key, f"{path}.{key}", problems): _value(kind, item, f"{path}.{key}", entry, problems)
        for key, item in raw.items()
    }


def _key(key: object, path: str, problems: Problems) -> str:
    """A map's key as text; a number only as it was written, for codes such as ``0: survived``."""
    written = problems.locate(path).key
    if not isinstance(key, str) and str(key) != written:
        problems.add(
            "E005", f"key read as {key}", path=path, found=written or shown(key), fix=f'put it in quotes: "{written}":'
        )
    return _text(str(key), path, problems)


def _plain(raw: object, path: str, problems: Problems, *, depth: int = 0) -> Any:  # noqa: ANN401
    """A free value, for a rule's parameters: scalars, lists and maps, not too deep."""
    if isinstance(raw, (dict, list)) and depth >= _DEEPEST:
        problems.add("E003", f"nested deeper than {_DEEPEST} levels", path=path)
    elif isinstance(raw, dict):
        return {
            _key(key, f"{path}.{key}", problems): _plain(item, f"{path}.{key}", problems, depth=depth + 1)
            for key, item in raw.items()
        }
    elif isinstance(raw, list):
        return [_plain(item, f"{path}.{number}", problems, depth=depth + 1) for number, item in enumerate(raw)]
    elif isinstance(raw, str):
        _text(raw, path, problems)
    elif raw is not None and not isinstance(raw, (bool, int, float)):
        problems.add("E003", f"cannot hold a {type(raw).__name__}", path=path, allowed="text, numbers, lists, maps")
    elif isinstance(raw, (int, float)) and not _is_finite(raw):
        _add_range(raw, path, problems)
    return raw


def _scalar(kind: type[Any], raw: object, path: str, entry: Field[Any], problems: Problems) -> Any:  # noqa: ANN401
    number = isinstance(raw, (int, float)) and not isinstance(raw, bool)
    fits = {str: isinstance(raw, str), bool: isinstance(raw, bool), float: number, int: number and isinstance(raw, int)}
    if not fits[kind]:
        return _add_wrong_type(kind, raw, path, problems)
    if number and _is_misread(raw, problems.locate(path).written):
        written = problems.locate(path).written
        problems.add(
            "E005", f"YAML reads {written} as {raw}", path=path, found=str(written), fix="write a plain number"
        )
        return raw
    value = _text(raw, path, problems) if isinstance(raw, str) else raw
    if isinstance(raw, (int, float)) and not _is_finite(raw):
        return _add_range(raw, path, problems)
    _check_bounds(value, path, entry.metadata, problems)
    return float(raw) if kind is float and isinstance(raw, (int, float)) else value


def _is_finite(raw: float) -> bool:
    return raw.bit_length() < 1000 if isinstance(raw, int) else math.isfinite(raw)


def _is_misread(raw: object, written: str | None) -> bool:
    """Whether YAML 1.1 reads the text as another number than a person does (012 is 10, 12:30 is 750)."""
    if written is None:
        return False
    return ":" in written or (isinstance(raw, int) and written.lstrip("+") != str(raw))


def _add_range(raw: object, path: str, problems: Problems) -> float:
    problems.add("E008", "is not a usable number", path=path, found=shown(raw), allowed="a finite number")
    return 0.0


def _add_wrong_type(kind: type[Any], raw: object, path: str, problems: Problems) -> Any:  # noqa: ANN401
    written = problems.locate(path).written
    if kind is str and written is not None and isinstance(raw, (bool, int, float)):
        what = f"was read as {raw}, because {written} has no quotes"
        problems.add("E005", what, path=path, found=written, fix=f'put it in quotes: "{written}"')
    else:
        fix = f"write {_NAMES[kind]}" + (f", for example {_EXAMPLES[kind]}" if kind in _EXAMPLES else "")
        problems.add("E003", "wrong type", path=path, found=shown(raw), allowed=_NAMES[kind], fix=fix)
    return kind()


def _text(raw: str, path: str, problems: Problems) -> str:
    if "${" in raw:
        problems.add("E031", "no interpolation may stand here", path=path, fix="write the value itself")
    elif any(unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\t" for letter in raw):
        problems.add("E007", "has a control character", path=path, found=shown(raw), fix="use plain text")
    return raw


def _check_bounds(value: Any, path: str, rule: Any, problems: Problems) -> None:  # noqa: ANN401
    if rule["choices"] and value not in rule["choices"]:
        reason, nearest = rule["refused"].get(value, ("", ""))
        what = f"{value} is refused: it {reason}" if reason else "not an allowed word"
        fix = f"choose {nearest}" if nearest else did_you_mean(str(value), rule["choices"])
        problems.add("E009", what, path=path, found=shown(value), allowed=", ".join(rule["choices"]), fix=fix)
    if rule["pattern"] and not re.fullmatch(rule["pattern"], value):
        problems.add(
            "E007", "has the wrong form", path=path, found=shown(value), allowed=f"text like {rule['pattern']}"
        )
    low, high, above = rule["low"], rule["high"], rule["above"]
    is_out = (
        (low is not None and value < low)
        or (high is not None and value > high)
        or (above is not None and value <= above)
    )
    if is_out:
        unit = f" {rule['unit']}" if rule["unit"] else ""
        problems.add(
            "E008", "is outside its range", path=path, found=shown(value), allowed=bounds(low, high, above) + unit
        )


def bounds(low: float | None, high: float | None, above: float | None) -> str:
    """A range in words, for example ``above 0, at most 100``; empty where there is none."""
    parts = [
        f"{word} {limit:.10g}"
        for word, limit in (("above", above), ("at least", low), ("at most", high))
        if limit is not None
    ]
    return ", ".join(parts)

"""How a setting is declared: value, meaning, unit and range in one place."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, field, fields, is_dataclass
from types import MappingProxyType
from typing import Any, get_args, get_type_hints

from omegaconf import MISSING

REQUIRED = MISSING


def setting(  # noqa: PLR0913 - one keyword for each thing a reader of the reference wants to know
    default: Any,  # noqa: ANN401 - settings hold any YAML value
    meaning: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
    refused: Mapping[str, tuple[str, str]] = MappingProxyType({}),
    pattern: str = "",
) -> Any:  # noqa: ANN401 - stands where a value of the field's type stands
    """Declare one setting of a schema.

    Args:
        default: The value where nobody says otherwise; ``REQUIRED`` where somebody must.
            Lists and dicts are copied for each instance.
        meaning: What it does, for the people who set it.
        unit: For example ``"patients"`` or ``"minutes"``.
        low: Smallest allowed value, itself allowed.
        high: Largest allowed value, itself allowed.
        above: Bound below every allowed value, itself not allowed.
        choices: The allowed words.
        refused: Known words that are not allowed, to the reason and the nearest choice.
        pattern: Regular expression that the whole text must match.
    """
    metadata = {
        "meaning": meaning,
        "unit": unit,
        "low": low,
        "high": high,
        "above": above,
        "choices": choices,
        "refused": refused,
        "pattern": pattern,
    }
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Setting:
    """One setting of a schema, as its reference shows it.

    Attributes:
        path: For example ``privacy.epsilon``; ``task.columns[].low`` inside a list or map.
        kind: Python type of the value.
        default: Value where nobody says otherwise; ``REQUIRED`` where somebody must.
        rule: Its declaration: meaning, unit, low, high, above, choices, refused, pattern.
    """

    path: str
    kind: Any
    default: Any
    rule: dict[str, Any]


def settings_of(schema: Any, *, prefix: str = "") -> Iterator[Setting]:  # noqa: ANN401 - any dataclass of settings
    """Every setting of a schema that holds a value, in the order it is declared.

    Args:
        schema: A dataclass of settings.
        prefix: Path of the schema inside another.
    """
    kinds = get_type_hints(schema)
    for entry in fields(schema):
        path, kind = f"{prefix}{entry.name}", kinds[entry.name]
        if is_dataclass(kind):
            yield from settings_of(kind, prefix=f"{path}.")
            continue
        default = entry.default if entry.default_factory is NO_DEFAULT else entry.default_factory()
        yield Setting(path, kind, default, dict(entry.metadata))
        for inner in get_args(kind):
            if is_dataclass(inner):
                yield from settings_of(inner, prefix=f"{path}[].")

"""How a setting is declared: value, meaning, unit and range in one place."""

from dataclasses import field
from typing import Any

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
        pattern: Regular expression that the whole text must match.
    """
    metadata = {
        "meaning": meaning,
        "unit": unit,
        "low": low,
        "high": high,
        "above": above,
        "choices": choices,
        "pattern": pattern,
    }
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)

"""One patient row as every layer above sees it, and the letters that name shapes.

Shapes in docstrings: B examples in a batch, T tokens, D hidden size, C classes,
F numeric columns, K cells, G groups, S sites, P patients.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Example:
    """One example: a note or a row of one patient. Never leaves the hospital.

    Attributes:
        patient: The hospital's own identifier; the unit of privacy and of splitting.
        label: Index into the study's ``task.labels``.
        text: The note, for text tasks; None for numeric tasks.
        columns: float[F] raw values in the order of the study's ``task.columns``; NaN where missing.
        groups: Protected attribute to group, for example ``{"sex": "female"}``.
        row: Position in the source file, for messages at the hospital only.
    """

    patient: str
    label: int
    text: str | None = None
    columns: tuple[float, ...] | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    row: int = -1


@dataclass(frozen=True)
class Splits:
    """Three sets of examples that share no patient."""

    train: tuple[Example, ...]
    audit: tuple[Example, ...]
    test: tuple[Example, ...]

"""Protected groups of each row, named the same at every site."""

import bisect
import re

import pandas as pd

from client_app.data.tables import canonical, column
from fedfm.config.site import Data, Group

_OPEN_ENDED = re.compile(r"([<>])\s*=?\s*(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)\s*\+")


def group_memberships(table: pd.DataFrame, data: Data) -> list[dict[str, str]]:
    """Return attribute to group of each row, for example ``{"sex": "female", "age_band": "65 and over"}``.

    An attribute whose value is missing, or that the site file gives no group, is left out of that row.

    Raises:
        DataError: A column is absent (SITE-E014).
    """
    memberships: list[dict[str, str]] = [{} for _ in range(len(table))]
    for attribute, group in data.groups.items():
        cells = column(table, group.column, setting=f"data.groups.{attribute}.column")
        values = {canonical(value): name for value, name in group.values.items()}
        for membership, cell, missing in zip(memberships, cells, cells.isna(), strict=True):
            name = None if missing else _group_of(canonical(str(cell)), values, group)
            if name:
                membership[attribute] = name
    return memberships


def band_of(number: float, bands: list[float]) -> str:
    """Return the name of the band, for borders 40 and 65: ``under 40``, ``40 to under 65``, ``65 and over``."""
    borders = [f"{border:g}" for border in sorted(bands)]
    place = bisect.bisect_right(sorted(bands), number)
    if place == 0:
        return f"under {borders[0]}"
    if place == len(borders):
        return f"{borders[-1]} and over"
    return f"{borders[place - 1]} to under {borders[place]}"


def declared_groups(group: Group) -> list[str]:
    """Return the groups that the site file lists, sorted; empty where it lists none. Never looks at the data."""
    bands = [band_of(border, group.bands) for border in group.bands]
    below = [band_of(min(group.bands) - 1, group.bands)] if group.bands else []
    return sorted({*group.values.values(), *below, *bands})


def as_number(value: str) -> float | None:
    """Return the number a cell stands for; open ends count as one beyond: ``>89``, ``> 89``, ``90+`` are 90.

    None for text that is neither.
    """
    if open_ended := _OPEN_ENDED.fullmatch(value.strip()):
        sign, bound, at_least = open_ended.groups()
        if at_least or "=" in value:
            return float(at_least or bound)
        return float(bound) + (1 if sign == ">" else -1)
    try:
        return float(value)
    except ValueError:
        return None


def _group_of(value: str, values: dict[str, str], group: Group) -> str | None:
    """Return the group that the site file gives to one value: by name, else by band, else the value itself."""
    if value in values:
        return values[value]
    if group.bands:
        number = as_number(value)
        return None if number is None or number != number else band_of(number, group.bands)  # noqa: PLR0124 - NaN
    return None if values else value

"""What is refused of a site's counts by group and its losses before they are added to those of the others."""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedfm.errors import IncompatibleUpdate
from server_app.screening import MAX_NOISE, NOISE_WIDTH, PER_DECLARED, either, within

MAX_GROUPS = 50
"""Most groups of one attribute that a site may list."""

MAX_NAME = 80
"""Longest name of a group, in characters; an intersection has as many names as attributes."""

MAX_CROSSED = 1000
"""Most groups of an intersection that a site may list."""

_OF_LOSSES = {"loss", "patients"}


def screen_groups(
    tables: Mapping[str, NDArray[np.float64]],
    sd: float,
    *,
    attributes: Sequence[str],
    shapes: Collection[tuple[int, int]],
    declared_patients: int,
) -> None:
    """Let through only tables of attributes that were asked for, with numbers that such a cohort can give.

    Args:
        tables: ``attribute=group`` to float64[C, K], as a site sent them.
        sd: Standard deviation of the noise in each number, as the site states it.
        attributes: The study's, and its intersections, where this round counts by them; else empty.
        shapes: Every (C, K) that the study allows in this round.
        declared_patients: Cohort that the site joined with; with the noise it bounds every count.

    Raises:
        IncompatibleUpdate: One that was not asked for, another shape, or a number out of bounds.
    """
    within("ROUND-E015", "groups_sd", sd, (0.0, MAX_NOISE))
    most, noise = float(PER_DECLARED * declared_patients), NOISE_WIDTH * sd
    by_attribute: dict[str, list[NDArray[np.float64]]] = {attribute: [] for attribute in attributes}
    for key, table in tables.items():
        attribute = next((name for name in attributes if key.startswith(f"{name}=")), None)
        if attribute is None or not 1 < len(key) - len(attribute) <= 1 + MAX_NAME * len(attribute.split("*")):
            raise unasked("counts by a group", key, ", ".join(attributes) or "none in this round")
        if table.shape not in shapes:
            raise IncompatibleUpdate(
                "ROUND-E014", "the counts have another shape", found=str(table.shape), allowed=either(shapes)
            )
        for cell in table.flat:
            within("ROUND-E015", "a count of a group", float(cell), (-noise, most + noise))
        by_attribute[attribute].append(table)
    for attribute, listed in by_attribute.items():
        within("ROUND-E015", "the number of groups", len(listed), (0, MAX_CROSSED if "*" in attribute else MAX_GROUPS))
        of_all = noise * math.sqrt(sum(table.size for table in listed))
        total = float(sum(table.sum() for table in listed))
        within("ROUND-E015", "the sum of an attribute's counts", total, (-of_all, most + of_all))


def screen_alone(
    cells: NDArray[np.float64], sd: float, *, shapes: Collection[tuple[int, int]], declared_patients: int
) -> None:
    """Let through only counts of a model trained alone that such a cohort can give; a site may have none.

    Args:
        cells: float64[C, K], or float64[., 0] for none, as a site sent them.
        sd: Standard deviation of the noise in each, as the site states it.
        shapes: Every (C, K) that the study allows in this round; none where it does not ask.
        declared_patients: Cohort that the site joined with.

    Raises:
        IncompatibleUpdate: Another shape, or a number out of bounds.
    """
    within("ROUND-E015", "alone_sd", sd, (0.0, MAX_NOISE))
    if cells.size == 0:
        return
    if cells.shape not in shapes:
        raise IncompatibleUpdate(
            "ROUND-E014", "the counts have another shape", found=str(cells.shape), allowed=either(shapes)
        )
    most, noise = float(PER_DECLARED * declared_patients), NOISE_WIDTH * sd
    for cell in cells.flat:
        within("ROUND-E015", "a count of the model trained alone", float(cell), (-noise, most + noise))
    of_all = noise * math.sqrt(cells.size)
    within("ROUND-E015", "the sum of these counts", float(cells.sum()), (-of_all, most + of_all))


def screen_losses(sums: Mapping[str, float], sd: float, *, is_asked: bool, declared_patients: int) -> None:
    """Let through only sums of losses that such a cohort can give.

    Args:
        sums: ``loss``, to which a patient adds at most 1, and ``patients``; or nothing.
        sd: Standard deviation of the noise in each, as the site states it.
        is_asked: Whether the study asks for losses.
        declared_patients: Cohort that the site joined with.

    Raises:
        IncompatibleUpdate: Sums that were not asked for, or a number out of bounds.
    """
    within("ROUND-E015", "losses_sd", sd, (0.0, MAX_NOISE))
    if not sums:
        return
    if not is_asked or set(sums) != _OF_LOSSES:
        raise unasked("sums of losses", ", ".join(sorted(sums)), ", ".join(sorted(_OF_LOSSES)) if is_asked else "none")
    most, noise = float(PER_DECLARED * declared_patients), NOISE_WIDTH * sd
    within("ROUND-E015", "the number of audit patients", sums["patients"], (-noise, most + noise))
    within("ROUND-E015", "the sum of losses", sums["loss"], (-noise, max(sums["patients"], 0.0) + noise))


def unasked(what: str, found: str, allowed: str) -> IncompatibleUpdate:
    """Return the refusal of what nobody has asked for."""
    return IncompatibleUpdate(
        "ROUND-E014",
        f"{what} that the study did not ask for",
        found=found[:MAX_NAME],
        allowed=allowed,
        fix="use the same release of fedfm at every site",
    )

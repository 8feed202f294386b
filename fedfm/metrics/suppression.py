"""Exact counts without small cells: none is shown, and none follows from what is shown.

A cell is *small* where it holds somebody, and fewer patients than the rule's least. What is shown is made of
partitions of one set of patients whose parts have no small cell. Every difference of such parts that is a set of
patients is a union of parts, so it has none either (complementary suppression: Cox 1980, Suppression methodology and
statistical disclosure control). Between two partitions that are not crossed, a cell may be anything up to the smaller
of the two parts' (Fréchet bounds), which is nobody or the least: so nothing can be told of it.

Source: CMS cell size suppression policy (no cell of 1 to 10, nor one that can be derived; zero may be shown).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedfm.metrics.counts import halves

Cells = NDArray[np.float64]

OTHER = "OTHER"
"""The group into which small ones are merged, with the patients of no listed group where these are few."""

UNLISTED = ""
"""The part of an attribute that holds the patients of no listed group: never shown, and derivable from totals."""

_ROUNDING = 1e-6  # thirds of patients do not add up to whole ones in floating point

Partition = Mapping[str, tuple[str, ...]]
"""Name of a part to the groups that it holds; every group, and ``UNLISTED``, is in one. Empty: withheld."""


@dataclass(frozen=True)
class Rule:
    """When a cell may be shown, and how.

    Attributes:
        least: Fewest patients of a cell that holds any.
        step: Shown counts are multiples of it.
    """

    least: int
    step: int


RULES: Mapping[str, Rule | None] = {"cms": Rule(11, 1), "redact7_round5": Rule(8, 5), "none": None}
"""Rule by its name in the site file; None shows all as it is."""


def has_small(table: Cells | float, rule: Rule) -> bool:
    """Whether any cell is small.

    A patient with several notes counts in parts, so a cell may be a fraction: anything between nobody and the
    least is small, 10.9 too. A count below nobody cannot be, and is taken for small.
    """
    found = np.asarray(table)
    return bool(((np.abs(found) > _ROUNDING) & (found < rule.least - _ROUNDING)).any())


def shown(table: Cells, rule: Rule) -> Cells:
    """Return counts as they are shown: whole patients, or multiples of the step, so that no fraction tells of one."""
    rounded: Cells = rule.step * np.round((table + _ROUNDING) / rule.step)
    return rounded


def coarsest(cells: Cells) -> Cells:
    """Return [2, 2] cells by label and half of the score from [2, K]; cells of more classes as they are."""
    return halves(cells) if len(cells) == 2 else cells


def coarsened(cells: Cells, rule: Rule, *, earlier: Sequence[Cells] = ()) -> Cells:
    """Return the finest of the cells, their two halves and nothing that may be shown.

    Args:
        cells: float64[C, K] exact counts, K even with two classes.
        rule: The site's.
        earlier: Exact cells of the same patients that are shown, too, from another model.

    Returns:
        float64[C, K], [2, 2] or [C, 0]; not rounded yet.
    """
    if not cells.size:
        return cells
    for candidate in (cells, coarsest(cells)):
        if not has_small(candidate, rule) and all(_is_apart(candidate, other, rule) for other in earlier):
            return candidate
    return np.zeros((len(cells), 0))


def merged(tables: Mapping[str, Cells], unlisted: Cells, rule: Rule) -> Partition:
    """Return the parts of an attribute that may be shown: small groups merged into ``OTHER``, or nothing.

    Groups with a small cell are merged, and with them the patients of no listed group and then others in the order of
    their names, until the merged ones have nobody or the least *on average* in each cell. Not the smallest: who knows
    that rule, and sees how large the shown groups are, could tell that the hidden ones are smaller, and so how many
    are in them (Wong et al. 2007, Minimality attack in privacy preserving data publishing). And the sum alone is not
    enough: two groups of at most ten that sum to twenty are ten each.

    Guarantees:
        Who knows the rule and all that it shows, and that nobody is unlisted or not how many are, pins no hidden cell
        below the least to one number. Beside a small cell, the average leaves a merged group with more than the least
        in that cell; one patient of the one could be in the other, and the same groups would be merged.

    Args:
        tables: Group to float64[C, C] exact counts.
        unlisted: The same of the patients of no listed group.
        rule: The site's.
    """
    groups = {**tables, UNLISTED: unlisted}
    small = [name for name, table in groups.items() if has_small(table, rule)]
    if not small:
        return {name: (name,) for name in groups}
    inside = sorted({*small, OTHER} if OTHER in groups else small)
    left = sorted(name for name in groups if name not in inside and groups[name].any())  # ``UNLISTED`` is the first
    while has_small(np.mean([groups[name] for name in inside], axis=0), rule):
        if not left:
            return {}
        inside.append(left.pop(0))
    alone = {name: (name,) for name in groups if name not in inside}
    return {**alone, OTHER: tuple(sorted(inside))} if set(left) - {UNLISTED} else {}


def crossed(
    joint: Mapping[tuple[str, str], Cells], rows: Partition, columns: Partition, rule: Rule
) -> tuple[Partition, Partition]:
    """Return parts of two attributes whose every intersection may be shown; empty ones where there are none.

    The parts of one of the two are merged, the one with more of them if that will do: cell by cell, what was merged
    would follow from the margins.

    Args:
        joint: Groups of both attributes, each with ``UNLISTED``, to float64[C, C] exact counts.
        rows: Parts of the first attribute as they are shown.
        columns: Of the second.
        rule: The site's.
    """
    tables = intersections(joint, rows, columns)
    for axis in (0, 1) if len(rows) > len(columns) else (1, 0):
        along, across = (rows, columns) if axis == 0 else (columns, rows)
        beside = {
            part: np.hstack([tables[(part, other) if axis == 0 else (other, part)] for other in across])
            for part in along
        }
        unlisted = beside.pop(UNLISTED, np.zeros_like(next(iter(beside.values()))))
        found = merged(beside, unlisted, rule)
        if found:
            named = {new: tuple(name for part in parts for name in along.get(part, ())) for new, parts in found.items()}
            coarser = {part: names for part, names in named.items() if names}
            return (coarser, columns) if axis == 0 else (rows, coarser)
    return {}, {}


def intersections(
    joint: Mapping[tuple[str, str], Cells], rows: Partition, columns: Partition
) -> dict[tuple[str, str], Cells]:
    """Return the counts of each part of one attribute in each of another."""
    return {
        (row, column): np.sum([joint[one, other] for one in rows[row] for other in columns[column]], axis=0)
        for row in rows
        for column in columns
    }


def sums(tables: Mapping[str, Cells], unlisted: Cells, partition: Partition) -> dict[str, Cells]:
    """Return the counts of each part but ``UNLISTED``, which is not shown."""
    groups = {**tables, UNLISTED: unlisted}
    return {part: np.sum([groups[n] for n in names], axis=0) for part, names in partition.items() if part != UNLISTED}


def without_cycles(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs, in their order, that close no cycle with those before.

    Three attributes crossed two by two can pin a cell that all three cross (Dobra and Fienberg 2000: bounds are
    sharp and simple where the shown tables form a decomposable model); a tree of crossings cannot.
    """
    root: dict[str, str] = {}

    def of(name: str) -> str:
        while name in root:
            name = root[name]
        return name

    kept = []
    for one, other in pairs:
        if of(one) != of(other):
            root[of(one)] = of(other)
            kept.append((one, other))
    return kept


def _is_apart(cells: Cells, earlier: Cells, rule: Rule) -> bool:
    """Whether nothing small follows from two counts of the same patients.

    Where one model calls everybody positive whom the other does, a difference counts patients; so each is nobody or
    the least: of a score bin, of all bins below a border, and of neighbouring bins, which a coarser table of either
    model may show as one.
    """
    if not earlier.size:
        return True
    if cells.shape != earlier.shape:
        cells, earlier = coarsest(cells), coarsest(earlier)
    below = np.pad((cells - earlier).cumsum(axis=1), ((0, 0), (1, 0)))
    return not has_small(np.abs(below[:, :, None] - below[:, None, :]), rule)

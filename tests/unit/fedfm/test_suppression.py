"""No small cell is shown, and none follows: the rules on tables, and everybody who could know the rule itself."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedfm.metrics import suppression
from fedfm.metrics.performance import performance
from fedfm.metrics.suppression import OTHER, RULES, UNLISTED, Rule

Counts = NDArray[np.float64]

CMS, ROUND5 = Rule(11, 1), Rule(8, 5)
NOBODY = np.zeros((2, 2))


def table(*cells: float) -> Counts:
    return np.array(cells, dtype=np.float64).reshape(2, -1)


def even(count: float) -> Counts:
    return np.full((2, 2), float(count))


def test_the_rules_are_those_that_a_site_file_names() -> None:
    assert RULES == {"cms": CMS, "redact7_round5": ROUND5, "none": None}


@pytest.mark.parametrize(
    ("count", "cms", "redact7"),
    [(0, False, False), (1, True, True), (7, True, True), (8, True, False), (10, True, False), (11, False, False)],
)
def test_ten_are_hidden_and_eleven_and_nobody_are_shown(count: int, cms: bool, redact7: bool) -> None:
    for rule, is_small in ((CMS, cms), (ROUND5, redact7)):
        assert suppression.has_small(table(0, 30, count, 30), rule) is is_small
        shown = suppression.coarsened(table(0, 30, count, 30), rule)
        assert shown.shape == ((2, 0) if is_small else (2, 2))


def test_a_part_of_a_patient_is_small_and_no_fraction_is_shown() -> None:
    """A patient with three notes may be a third in one cell: nobody learns of thirds."""
    assert suppression.has_small(table(0.4, 30, 30, 30), CMS)
    assert suppression.has_small(table(10.9, 30, 30, 30), CMS)
    assert not suppression.has_small(table(sum([1 / 3] * 33), 30, 30, 30), CMS)  # 11, but for floating point
    assert not suppression.has_small(table(1 / 3 + 1 / 3 + 1 / 3 - 1, 30, 30, 30), CMS)
    np.testing.assert_array_equal(suppression.shown(table(11.3, 12.5, 0, 40), CMS), table(11, 13, 0, 40))
    np.testing.assert_array_equal(suppression.shown(table(8, 12.4, 0, 43), ROUND5), table(10, 10, 0, 45))


def test_the_complement_counts_too() -> None:
    """A sensitivity of 45/50 shows that 5 were missed: neither the five nor the 45 beside their total."""
    cells = table(100, 40, 5, 45)
    assert suppression.coarsened(cells, CMS).shape == (2, 0)


def test_score_bins_become_halves_before_they_are_withheld() -> None:
    fine = table(30, 20, 3, 12, 12, 4, 20, 30)
    np.testing.assert_array_equal(suppression.coarsened(fine, CMS), table(50, 15, 16, 50))
    whole = table(30, 20, 11, 12, 12, 0, 20, 30)
    assert suppression.coarsened(whole, CMS) is whole
    three = np.array([[20.0, 11, 3], [11, 40, 11], [11, 11, 11]])
    assert suppression.coarsened(three, CMS).shape == (3, 0)


@pytest.mark.parametrize(
    ("alone", "columns"),
    [
        (table(50, 20, 20, 50), 2),  # the same answers
        (table(47, 23, 20, 50), 0),  # three negatives more are called positive
        (table(39, 31, 20, 50), 2),
        (table(60, 10, 20, 50), 0),
    ],
)
def test_two_counts_of_the_same_patients_differ_by_nobody_or_by_many(alone: Counts, columns: int) -> None:
    shown = suppression.coarsened(alone, CMS, earlier=[table(50, 20, 20, 50)])
    assert shown.shape == (2, columns)


def test_neighbouring_bins_together_differ_by_nobody_or_by_many_too() -> None:
    """No bin differs by few, nor do those below any border; but the second and third together do."""
    earlier = table(*[40] * 16)
    moved = table(*[0] * 8, 11, 14, -11, 0, -14, 0, 0, 0)
    assert suppression.coarsened(earlier + moved, CMS, earlier=[earlier]).shape == (2, 2)
    moved = table(*[0] * 8, 11, 22, -11, 0, -22, 0, 0, 0)
    assert suppression.coarsened(earlier + moved, CMS, earlier=[earlier]).shape == (2, 8)


def test_those_below_a_border_differ_by_nobody_or_by_many_too() -> None:
    """No bin differs by few; yet three patients more are below the second border."""
    earlier = table(*[40] * 12)
    for moved, columns in (
        ((-12, 15, -15, 0, 12, 0), 2),
        ((-12, 15, 0, -15, 12, 0), 0),
        ((-12, 12, 0, -12, 12, 0), 6),
    ):
        cells = earlier + table(*[0] * 6, *moved)
        assert suppression.coarsened(cells, CMS, earlier=[earlier]).shape == (2, columns)


def test_a_single_hidden_group_takes_another_with_it() -> None:
    groups = {"a": even(50), "b": even(40), "c": even(3)}
    parts = suppression.merged(groups, NOBODY, CMS)
    assert parts == {"b": ("b",), OTHER: ("a", "c"), UNLISTED: (UNLISTED,)}
    shown = suppression.sums(groups, NOBODY, parts)
    assert set(shown) == {"b", OTHER}
    np.testing.assert_array_equal(shown[OTHER], even(53))


def test_small_groups_are_merged_among_themselves_first() -> None:
    groups = {"a": even(50), "b": even(40), "c": table(3, 19, 30, 0), "d": table(19, 3, 30, 0)}
    assert suppression.merged(groups, NOBODY, CMS)[OTHER] == ("c", "d")
    groups["d"] = table(18, 3, 30, 0)
    assert suppression.merged(groups, NOBODY, CMS)[OTHER] == ("a", "c", "d")


def test_two_small_groups_are_not_shown_by_their_sum() -> None:
    """Of twenty patients in two groups of at most ten each, ten are in each."""
    groups = {"a": even(50), "b": even(40), "c": even(10), "d": even(10)}
    assert suppression.merged(groups, NOBODY, CMS)[OTHER] == ("a", "c", "d")
    del groups["b"]
    assert suppression.merged(groups, NOBODY, CMS) == {}
    two = {"a": table(11, 0, 0, 0), "b": even(40), "c": table(10, 0, 0, 0)}
    assert suppression.merged(two, NOBODY, CMS) == {}  # 21 in two


def test_two_groups_of_which_one_is_small_are_withheld() -> None:
    assert suppression.merged({"a": even(50), "b": even(3)}, NOBODY, CMS) == {}


def test_few_patients_of_no_listed_group_join_other() -> None:
    """They can be derived from the total as well as any group."""
    groups = {"a": even(50), "b": even(40), "c": even(30)}
    assert suppression.merged(groups, even(2), CMS)[OTHER] == (UNLISTED, "a")
    assert suppression.merged(groups, even(12), CMS)[UNLISTED] == (UNLISTED,)
    assert suppression.merged({"a": even(50)}, even(2), CMS) == {}


def test_an_empty_group_is_shown_as_such_and_hides_nobody() -> None:
    parts = suppression.merged({"a": even(50), "b": even(40), "c": even(3), "d": NOBODY}, NOBODY, CMS)
    assert parts["d"] == ("d",)
    assert parts[OTHER] == ("a", "c")


def test_a_group_called_other_is_where_the_others_go() -> None:
    parts = suppression.merged({"a": even(50), OTHER: even(40), "c": even(3)}, NOBODY, CMS)
    assert parts == {"a": ("a",), OTHER: (OTHER, "c"), UNLISTED: (UNLISTED,)}


def test_intersections_are_merged_along_whole_rows_and_columns() -> None:
    """Cell by cell, what was merged would follow from the margins."""
    rows, columns = (
        {name: (name,) for name in (*names, UNLISTED)} for names in (("f", "m"), ("young", "middle", "old"))
    )
    counts = {("f", "young"): 3, ("f", "middle"): 20, ("f", "old"): 30}
    counts |= {("m", "young"): 20, ("m", "middle"): 20, ("m", "old"): 30}
    joint = {pair: even(counts.get(pair, 0)) for pair in product(rows, columns)}
    kept, merged = suppression.crossed(joint, rows, columns, CMS)
    assert kept == rows
    assert merged == {"old": ("old",), UNLISTED: (UNLISTED,), OTHER: ("middle", "young")}
    turned = {(column, row): table for (row, column), table in joint.items()}
    assert suppression.crossed(turned, columns, rows, CMS) == (merged, kept)
    joint["f", "old"] = joint["f", "middle"] = even(1)
    assert suppression.crossed(joint, rows, columns, CMS) == ({}, {})
    joint["f", "old"] = joint["f", "middle"] = joint["f", "young"] = even(4)
    assert suppression.crossed(joint, rows, columns, CMS) == ({}, {})


def test_what_is_merged_already_is_merged_further() -> None:
    rows = {"f": ("f",), "m": ("m",), UNLISTED: (UNLISTED,)}
    columns = {"young": ("young",), "old": ("old",), OTHER: (UNLISTED, "middle", "oldest")}
    joint = {pair: even(20) for pair in product(rows, ("young", "middle", "old", "oldest", UNLISTED))}
    assert suppression.crossed(joint, rows, columns, CMS) == (rows, columns)
    joint["f", "old"] = even(1)
    _, merged = suppression.crossed(joint, rows, columns, CMS)
    assert merged == {"young": ("young",), OTHER: (UNLISTED, "middle", "oldest", "old")}


def test_of_crossings_in_a_circle_the_last_is_left_out() -> None:
    pairs = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "d")]
    assert suppression.without_cycles(pairs) == [("a", "b"), ("b", "c"), ("c", "d")]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.sampled_from([0, 1, 5, 10, 11, 12, 25]), min_size=4, max_size=4), min_size=2, max_size=6))
def test_no_union_of_what_is_shown_leaves_few(cells: list[list[int]]) -> None:
    """Whatever is added up or taken off the total: nobody, or many."""
    unlisted, *listed = (table(*row) for row in cells)
    groups = {f"g{number}": own for number, own in enumerate(listed)}
    parts = suppression.merged(groups, unlisted, CMS)
    shown = list(suppression.sums(groups, unlisted, parts).values())
    everyone = np.sum([unlisted, *listed], axis=0)
    for chosen in product((0, 1), repeat=len(shown)):
        union = np.sum([NOBODY, *(own for own, is_in in zip(shown, chosen, strict=True) if is_in)], axis=0)
        if parts:
            assert not suppression.has_small(union, CMS)
            assert not suppression.has_small(everyone - union, CMS)
    assert sorted(name for names in parts.values() for name in names) == (sorted([*groups, UNLISTED]) if parts else [])


def worlds(groups: int, cells: int, *, most: int) -> Iterator[Counts]:
    """Yield each float64[groups, 1, cells] with no more than so many patients in any cell of all groups together."""
    columns = [column for column in product(range(most + 1), repeat=groups) if sum(column) <= most]
    for chosen in product(columns, repeat=cells):
        yield np.array(chosen, dtype=np.float64).T.reshape(groups, 1, cells)


def published_by(world: Counts, rule: Rule, *, has_unlisted: bool) -> tuple[tuple[str, bytes], ...]:
    """Return the total and what is shown of the groups; the last of them is of no listed group, or nobody is."""
    listed, unlisted = (world[:-1], world[-1]) if has_unlisted else (world, np.zeros_like(world[0]))
    groups = dict(zip("abcd", listed, strict=False))
    parts = suppression.merged(groups, unlisted, rule)
    shown = {part: own.tobytes() for part, own in suppression.sums(groups, unlisted, parts).items()}
    return ("total", world.sum(axis=0).tobytes()), *sorted(shown.items())


@pytest.mark.parametrize(
    ("least", "most", "groups", "cells", "has_unlisted"),
    [(4, 16, 3, 1, True), (4, 18, 3, 1, False), (3, 17, 4, 1, False), (3, 9, 3, 2, True), (3, 9, 3, 2, False)],
)
def test_who_knows_the_rule_itself_pins_no_small_cell(
    least: int, most: int, groups: int, cells: int, has_unlisted: bool
) -> None:
    """Every site there may be, by what it would publish: none of its small cells is the same in all of them.

    Exhaustive, and so with a rule of 3 or 4 instead of 11. Total and rule are known, and whether everybody is of a
    listed group.
    """
    alike = defaultdict(list)
    for world in worlds(groups, cells, most=most):
        if not suppression.has_small(world.sum(axis=0), Rule(least, 1)):  # else the total itself is withheld
            alike[published_by(world, Rule(least, 1), has_unlisted=has_unlisted)].append(world)
    compared = 0
    for same in map(np.array, alike.values()):
        is_small = ((same > 0) & (same < least)).any(axis=0)
        compared += int(is_small.sum())
        assert not (is_small & (same.min(axis=0) == same.max(axis=0))).any()
    assert compared > 10


def test_figures_of_noised_counts_are_over_eleven_for_certain() -> None:
    """Of each class that they compare; of exact counts a site has decided itself."""
    cells = table(*[40] * 10, *[1.5] * 10)
    noised, exact = (performance(cells, cells_sd=sd, positive=1) for sd in (1.0, 0.0))
    known = {name for name, figure in vars(noised).items() if figure is not None}
    assert known == {"patients", "accuracy", "specificity", "prevalence", "brier", "baseline"}
    assert all(figure is not None for figure in vars(exact).values())
    assert performance(cells * 2, cells_sd=1.0, positive=1).sensitivity is not None

"""What somebody could solve for who has all that leaves of exact counts: of no small cell that it is one."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from client_app import small_cells
from fedfm.metrics import suppression
from fedfm.metrics.suppression import OTHER, Cells
from fedfm.wire import EvaluateReply
from tests.unit.client_app.attacker import Attacker, Counts
from tests.unit.client_app.hospital import AXES, BINS, SHOWN, counts_of, in_bins, published, study_of, told


def sites() -> st.SearchStrategy[tuple[Counts, int]]:
    """Draw a site with many in some sets of patients, and few in some others; and the score bins of its groups."""

    def with_bins(bins: int) -> st.SearchStrategy[Counts]:
        at = st.tuples(*(st.integers(0, size - 1) for size in (AXES | {"bin": bins}).values()))
        many = st.dictionaries(at, st.sampled_from([11, 12, 20, 40]), min_size=2, max_size=12)
        few = st.dictionaries(at, st.integers(1, 10), max_size=4)
        return st.tuples(many, few).map(lambda both: sum(counts_of(one, AXES | {"bin": bins}) for one in both))

    fewer = st.tuples(with_bins(BINS), st.sampled_from([2, BINS]))
    return st.one_of(fewer, st.tuples(with_bins(2 * BINS), st.just(BINS)))


UNLISTED_BESIDE_ONE = counts_of(
    {(0, 0, 0, 0, 0): 11, (0, 0, 0, 0, 2): 11, (1, 2, 0, 2, 0): 11, (1, 3, 0, 3, 1): 11, (1, 2, 0, 2, 1): 1}
)
"""One patient of the third group in the second of the other attribute, where those of no listed group are eleven."""


@pytest.mark.parametrize("examples", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_no_small_cell_follows_from_all_that_leaves_in_a_run(examples: int) -> None:
    """Cells, groups, intersections, the model trained alone, several rounds: no small set is known to be small.

    Percentages, gaps and intervals of a report are computed from these tables, and tell less than they do.
    """

    @settings(max_examples=examples, deadline=None)
    @given(site=sites())
    @example(site=(UNLISTED_BESIDE_ONE, 2))
    def holds(site: tuple[Counts, int]) -> None:
        counts, bins = site
        axes = AXES | {"bin": counts.shape[1]}
        study = study_of(f"evaluation.group_bins={bins}", bins=counts.shape[1])
        answers = published(counts, study, bins=bins)
        closing = answers[1][1]
        kinds = {"*" in key: OTHER in key for key in closing.groups}
        event(f"cells {closing.cells.shape[1]}, alone {closing.alone.shape[1]}, groups and crossings merged: {kinds}")
        assert told(Attacker(axes), counts, answers).finds(counts) == []

    holds()


def test_something_is_left_and_nothing_small_follows_from_it() -> None:
    (_, on_the_way), (_, closing), (_, other), (_, again) = answers = published(SHOWN, study_of())
    assert on_the_way.cells.shape == other.cells.shape == (2, 0)
    assert closing.cells.shape == (2, BINS)
    assert sorted(closing.groups) == [
        *("a*b=OTHER*b1", "a*b=OTHER*b2", "a*b=a2*b1", "a*b=a2*b2"),
        *("a=OTHER", "a=a2", "b=b1", "b=b2"),
    ]
    np.testing.assert_array_equal(again.cells, closing.cells)
    assert again.groups.keys() == closing.groups.keys()
    assert told(Attacker(AXES), SHOWN, answers).finds(SHOWN) == []


def test_who_is_not_bound_by_a_rule_shows_small_cells() -> None:
    answers = published(SHOWN, study_of(), rule="none")
    assert answers[1][1].groups["a=a3"][0, 1] == 5.0
    found = told(Attacker(AXES), SHOWN, answers).finds(SHOWN)
    assert "label=0, bin=3, a=2" in found


def naively(tables: Mapping[str, Cells], unlisted: Cells, rule: suppression.Rule) -> suppression.Partition:
    """Hide the small groups, and nothing else."""
    return {name: (name,) for name, table in tables.items() if not suppression.has_small(table, rule)}


def test_the_attacker_finds_a_single_hidden_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: small groups are hidden, and their complement is not."""
    monkeypatch.setattr(suppression, "merged", naively)
    answers = published(SHOWN, study_of(pairs=""))
    assert sorted(answers[1][1].groups) == ["a=a1", "a=a2", "b=b1", "b=b2"]
    assert "label=0, bin=3, a=23" in told(Attacker(AXES), SHOWN, answers).finds(SHOWN)  # or of no listed group


def test_the_attacker_finds_few_patients_of_no_listed_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: only the groups that are listed are looked at."""
    counts = counts_of(
        {(label, label * 3, label, a, 0): 30 for label in (0, 1) for a in (0, 1, 2)} | {(0, 0, 0, 3, 0): 4}
    )
    answers = published(counts, study_of(pairs=""))
    assert {key for key in answers[1][1].groups if key.startswith("a=")} == {"a=a2", "a=a3", "a=OTHER"}
    assert told(Attacker(AXES), counts, answers).finds(counts) == []
    monkeypatch.setattr(small_cells._Counted, "unlisted", lambda self, _: np.zeros_like(self.everyone))
    answers = published(counts, study_of(pairs=""))
    assert told(Attacker(AXES), counts, answers).knows_small(Attacker(AXES).of(label=0, a=3))


def test_the_attacker_finds_a_cell_that_three_crossings_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    """No table has a small cell, and no two of them give one: all three do."""
    axes = {**AXES, "c": 3}
    who = {(0, 0, 0): 5, (0, 0, 1): 20, (0, 1, 0): 20, (1, 0, 0): 20}
    counts = counts_of({(0, 0, 0, *groups): many for groups, many in who.items()}, axes)
    study = study_of(groups="a,b,c", pairs="a*b,b*c,a*c")
    answers = published(counts, study)
    assert {key.partition("=")[0] for key in answers[1][1].groups} == {"a", "b", "c", "a*b", "b*c"}
    all_three = Attacker(axes).of(label=0, a=0, b=0, c=0)
    assert not told(Attacker(axes), counts, answers).knows_small(all_three)
    monkeypatch.setattr(suppression, "without_cycles", list)
    answers = published(counts, study)
    assert "a*c=a1*c1" in answers[1][1].groups
    assert told(Attacker(axes), counts, answers).knows_small(all_three)


NESTED = counts_of(
    {(0, 0, 0, 0, 0): 40, (0, 3, 1, 0, 0): 40, (0, 0, 1, 0, 0): 3, (1, 0, 0, 0, 0): 40, (1, 3, 1, 0, 0): 40}
)
"""Whom one model calls positive, the other does as well, and three more."""


@pytest.mark.parametrize("fault", ["_is_first_or_same", "_is_apart"])
def test_the_attacker_finds_who_is_between_two_models(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two counts without small cells show three patients to whom who knows that one model is stricter."""

    def knows(answers: Sequence[tuple[str, EvaluateReply]]) -> bool:
        attacker = Attacker(AXES)
        attacker.learns(attacker.of(bin=(2, 3), other=0), 0)
        return told(attacker, NESTED, answers).knows_small(attacker.of(label=0, bin=(0, 1), other=1))

    study = study_of(groups="", pairs="")
    answers = published(NESTED, study)
    assert answers[1][1].cells.size
    assert not knows(answers)
    where = suppression if fault == "_is_apart" else small_cells
    monkeypatch.setattr(where, fault, lambda *_: True)
    assert knows(published(NESTED, study))


FEW_BETWEEN = counts_of(
    {
        **{(0, 0, 0, 0, 0): 20, (0, 1, 0, 0, 0): 5, (0, 2, 0, 0, 0): 3, (0, 2, 1, 0, 0): 20, (0, 4, 1, 0, 0): 40},
        **{(1, 0, 0, 0, 0): 40, (1, 7, 1, 0, 0): 40},
    },
    AXES | {"bin": 2 * BINS},
)
"""In the lowest quarter of the score, the model trained alone has whom the other has there, and three more."""


def test_the_attacker_finds_who_is_between_two_models_in_bins_of_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: groups leave in bins that the cells may not be shown in, and their sums are such cells."""

    def knows(answers: Sequence[tuple[str, EvaluateReply]]) -> bool:
        attacker = Attacker(AXES | {"bin": 2 * BINS})
        attacker.learns(attacker.of(bin=(0, 1), other=1), 0)
        attacker.learns(attacker.of(bin=(4, 5, 6, 7), other=0), 0)
        return told(attacker, FEW_BETWEEN, answers).knows_small(attacker.of(label=0, bin=(2, 3), other=0))

    study = study_of(f"evaluation.group_bins={BINS}", groups="a", pairs="", bins=2 * BINS)
    answers = published(FEW_BETWEEN, study, bins=BINS)
    assert answers[1][1].cells.shape == (2, 2)
    assert answers[1][1].alone.shape == (2, 2 * BINS)
    assert not knows(answers)
    monkeypatch.setattr(small_cells, "_bins", lambda cells, columns, _: in_bins(cells, columns))
    assert knows(published(FEW_BETWEEN, study, bins=BINS))


def test_the_attacker_finds_groups_that_are_merged_in_another_way_in_another_round() -> None:
    axes = {"label": 2, "group": 3}
    counts = counts_of({(0, 0): 40, (0, 1): 3, (0, 2): 30}, axes)
    attacker = Attacker(axes)
    attacker.learns(attacker.of(label=0, group=0), 40)
    attacker.learns(attacker.of(label=0, group=(1, 2)), 33)
    assert attacker.finds(counts) == []
    attacker.learns(attacker.of(label=0, group=(0, 1)), 43)
    assert "label=0, group=1" in attacker.finds(counts)


def test_the_attacker_finds_a_cell_in_a_percentage() -> None:
    """90.0 % of 50 positives found: five were missed. Of 500, the rounding hides nothing either."""
    for positives, missed in ((50, 5), (500, 3)):
        axes = {"called": 2}
        counts = counts_of({(0,): missed, (1,): positives - missed}, axes)
        attacker = Attacker(axes)
        attacker.learns(attacker.of(), positives)
        assert attacker.finds(counts) == []
        attacker.learns_share(attacker.of(called=1), attacker.of(), round(100 * (1 - missed / positives), 1))
        assert attacker.range(attacker.of(called=0)) == (missed, missed)
        assert attacker.finds(counts) == ["called=0"]

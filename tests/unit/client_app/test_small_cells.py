"""What leaves of exact counts, and what somebody could solve for who has all of it: of no small cell that it is one."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from client_app import small_cells
from client_app.asked import Round
from client_app.ledger import Ledger
from client_app.small_cells import without_small_cells
from fedfm.config import site as site_config
from fedfm.config.compose import compose_study
from fedfm.config.study import Study
from fedfm.metrics import suppression
from fedfm.metrics.suppression import OTHER, Cells
from fedfm.plan import plan
from fedfm.wire import EvaluateReply, PrivacySpent, Request
from tests.unit.client_app.attacker import Attacker, Counts

SPENT = PrivacySpent("none", 1e-3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
BINS, LISTED = 4, {"a": ("a1", "a2", "a3"), "b": ("b1", "b2"), "c": ("c1", "c2")}
AXES = {"label": 2, "bin": BINS, "other": 2, "a": 4, "b": 3}
"""A test patient: label, score bin, answer of another model, group of each attribute; the last group is unlisted."""

Patients = Mapping[tuple[int, ...], int]


@lru_cache
def study_of(*overrides: str, groups: str = "a,b", pairs: str = "a*b") -> Study:
    wanted = [f"evaluation.bins={BINS}", f"task.groups=[{groups}]", f"task.intersections=[{pairs}]", "rounds=2"]
    study: Study = compose_study(
        ["model=tiny", "adapter=head", "privacy=none", "evaluation=exact", *wanted, *overrides]
    ).value
    return study


def asked(study: Study, state: Path, *, number: int = 2, rule: str = "cms") -> Round:
    groups = {
        name: site_config.Group(name, values={group: group for group in listed}) for name, listed in LISTED.items()
    }
    data = site_config.Data("x.csv", "text", "mrn", "y", label_map={}, split=site_config.Split(), groups=groups)
    policy = site_config.Policy(small_cells=rule)
    site = site_config.Site("hospital-a", declared_patients=60, data=data, policy=policy, state=str(state))
    prepared: Any = SimpleNamespace()
    return Round(site, study, plan(study, delta=1e-3), Ledger(state, "a"), prepared, Request("run", "{}", number, ""))


def counts_of(patients: Patients, axes: Mapping[str, int] = AXES) -> Counts:
    counts = np.zeros(tuple(axes.values()), dtype=np.int64)
    for at, many in patients.items():
        counts[at] += many
    return counts


def halved(cells: Cells) -> Cells:
    return np.stack([cells[:, :2].sum(axis=1), cells[:, 2:].sum(axis=1)], axis=1)


def reply_of(counts: Counts, *, study: Study, number: int = 2, model: str = "bin", bins: int = 2) -> EvaluateReply:
    """Count exactly, as a site does, the answers of the model whose scores an axis holds."""
    names = [*AXES, "c"][: counts.ndim]

    def over(table: Counts, *kept: str) -> Cells:
        """Return the counts by the named axes, in this order; the answers 0 and 1 are the outermost bins."""
        gone = tuple(axis for axis, name in enumerate(names) if name not in kept)
        left = [name for name in names if name in kept]
        found = table.sum(axis=gone).transpose([left.index(name) for name in kept]).astype(float)
        if "other" in kept:
            at = kept.index("other")
            zeros = np.zeros_like(found.take([0], axis=at))
            found = np.concatenate([found.take([0], axis=at), zeros, zeros, found.take([1], axis=at)], axis=at)
        return found

    is_last = number == 2
    groups = {}
    for name in [*study.task.groups, *study.task.intersections] if is_last else []:
        tables = over(counts, *name.split("*"), "label", model)
        for at in product(*(range(len(LISTED[attribute])) for attribute in name.split("*"))):
            named = "*".join(LISTED[attribute][index] for attribute, index in zip(name.split("*"), at, strict=True))
            groups[f"{name}={named}"] = tables[at] if bins == BINS else halved(tables[at])
    cells = over(counts, "label", model)
    return EvaluateReply(
        site="hospital-a",
        round=number,
        cells=cells if is_last else halved(cells),
        cells_sd=0.0,
        explanation={},
        explanation_sd=0.0,
        seconds=1.0,
        privacy=SPENT,
        groups=groups,
        alone=over(counts, "label", "other") if is_last else np.zeros((2, 0)),
    )


def published(counts: Counts, study: Study, *, bins: int = 2, rule: str = "cms") -> list[tuple[str, EvaluateReply]]:
    """Return all that leaves in a run, and of which model: on the way, at the end, asked again twice."""
    with tempfile.TemporaryDirectory() as state:
        return [
            (model, without_small_cells(reply, asked(study, Path(state), number=number, rule=rule)))
            for model, number in (("other", 1), ("bin", 2), ("other", 2), ("bin", 2))
            for reply in [reply_of(counts, study=study, number=number, model=model, bins=bins)]
        ]


def told(attacker: Attacker, counts: Counts, answers: Sequence[tuple[str, EvaluateReply]]) -> Attacker:
    """Let the attacker have every table that left, and know what ``OTHER`` is made of."""
    for model, reply in answers:
        learn(attacker, reply.cells, model, [{}], counts)
        learn(attacker, reply.alone, "other", [{}], counts)
        for key, table in reply.groups.items():
            name, _, group = key.partition("=")
            choices = [members(reply, name, at, part) for at, part in enumerate(group.split("*"))]
            options = [dict(zip(name.split("*"), parts, strict=True)) for parts in product(*choices)]
            learn(attacker, table, model, options, counts)
    return attacker


def members(reply: EvaluateReply, name: str, at: int, part: str) -> list[tuple[int, ...]]:
    """Return which groups a part may hold: itself, or all that are not shown, without or with the unlisted."""
    listed = LISTED[name.split("*")[at]]
    if part != OTHER:
        return [(listed.index(part),)]
    keys = [key.partition("=") for key in reply.groups]
    alone = {group.split("*")[at] for attribute, _, group in keys if attribute == name}
    rest = tuple(index for index, group in enumerate(listed) if group not in alone)
    return [rest, (*rest, len(listed))]


def learn(attacker: Attacker, table: Cells, model: str, options: Sequence[Mapping[str, Any]], counts: Counts) -> None:
    """Take each cell as a fact, of the first of the sets it may be about of which it is true."""
    if not table.shape[1]:
        return
    size, width = attacker.axes[model], table.shape[1]
    per = [tuple(np.flatnonzero(np.arange(size) * width // size == column).tolist()) for column in range(width)]
    if size == 2 and width == BINS:
        per = [(0,), (), (), (1,)]
    for option in options:
        sets = {
            (label, column): attacker.of(label=label, **{model: per[column]}, **option)
            for label in (0, 1)
            for column in range(width)
        }
        if all(counts[who].sum() == table[at] for at, who in sets.items()):
            for at, who in sets.items():
                attacker.learns(who, float(table[at]))
            return
    raise AssertionError("a table that is not true")


def patients() -> st.SearchStrategy[Counts]:
    """Draw a site with many in some sets of patients, and few in some others."""
    at = st.tuples(*(st.integers(0, size - 1) for size in AXES.values()))
    many = st.dictionaries(at, st.sampled_from([11, 12, 20, 40]), min_size=2, max_size=12)
    few = st.dictionaries(at, st.integers(1, 10), max_size=4)
    return st.tuples(many, few).map(lambda both: counts_of(both[0]) + counts_of(both[1]))


SHOWN = counts_of(
    {
        **{(label, label * 3, b, a, b): 30 for label in (0, 1) for a in (0, 1, 2) for b in (0, 1)},
        **{(label, 3 - label * 3, 1, a, b): 12 for label in (0, 1) for a in (0, 1) for b in (0, 1)},
        (0, 3, 1, 2, 0): 5,
    }
)
"""A hospital of which nearly all may be shown: five of the third group of one attribute are called positive wrongly."""


@pytest.mark.parametrize("examples", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_no_small_cell_follows_from_all_that_leaves_in_a_run(examples: int) -> None:
    """Cells, groups, intersections, the model trained alone, several rounds: no small set is known to be small.

    Percentages, gaps and intervals of a report are computed from these tables, and tell less than they do.
    """

    @settings(max_examples=examples, deadline=None)
    @given(counts=patients(), bins=st.sampled_from([2, BINS]))
    def holds(counts: Counts, bins: int) -> None:
        answers = published(counts, study_of(f"evaluation.group_bins={bins}"), bins=bins)
        closing = answers[1][1]
        kinds = {"*" in key: OTHER in key for key in closing.groups}
        event(f"cells {closing.cells.shape[1]}, alone {closing.alone.shape[1]}, groups and crossings merged: {kinds}")
        assert told(Attacker(AXES), counts, answers).finds(counts) == []

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


def lost(patients: float, documents: float, **more: Any) -> EvaluateReply:
    told = {"loss": 0.4 * patients, "patients": patients}
    explained = {"comprehensiveness": 0.3 * documents, "random_order": 0.1 * documents, "documents": documents}
    reply = reply_of(counts_of({}), study=study_of(), number=1)
    return replace(reply, losses=told, explanation=explained, **more)


@pytest.mark.parametrize(
    ("patients", "documents", "says_loss", "explains"),
    [(10, 0, False, True), (11, 11, True, True), (11, 8, True, False), (30, 20, True, False), (31, 20, True, True)],
)
def test_sums_over_few_audit_patients_are_not_told(
    patients: int, documents: int, says_loss: bool, explains: bool, tmp_path: Path
) -> None:
    """Nor explanations of all but a few of them; what is withheld is empty and never zero."""
    sent = lost(patients, documents)
    reply = without_small_cells(sent, asked(study_of(), tmp_path, number=1))
    assert reply.losses == (sent.losses if says_loss else {})
    assert reply.explanation == (sent.explanation if explains else {})


def test_a_rounded_count_keeps_the_mean(tmp_path: Path) -> None:
    reply = without_small_cells(lost(33, 0), asked(study_of(), tmp_path, number=1, rule="redact7_round5"))
    assert reply.losses == {"loss": pytest.approx(0.4 * 35), "patients": 35.0}
    assert reply.explanation == {"comprehensiveness": 0.0, "random_order": 0.0, "documents": 0.0}
    assert not without_small_cells(lost(7, 0), asked(study_of(), tmp_path, number=1, rule="redact7_round5")).losses


def test_rounded_counts_are_multiples_of_five() -> None:
    (*_, (_, reply)) = published(SHOWN, study_of(), rule="redact7_round5")
    assert reply.cells.size
    assert reply.groups
    for table in (reply.cells, *reply.groups.values()):
        assert not (table % 5).any()
        assert not ((table > 0) & (table < 8)).any()


def test_noised_counts_pass_as_they_are(tmp_path: Path) -> None:
    """Their noise protects them; and what a site leaves out of them would tell of its patients."""
    noised = replace(lost(3, 3), cells=np.full((2, BINS), 4.2), groups={"a=a1": np.full((2, 2), -1.5)})
    noised = replace(noised, cells_sd=2.0, groups_sd=3.0, losses_sd=2.0, explanation_sd=2.0)
    reply = without_small_cells(noised, asked(study_of(), tmp_path))
    assert all(getattr(reply, name) is value for name, value in vars(noised).items())


def audited(patients: float | None, **groups: float) -> EvaluateReply:
    """Answer with as many audit patients in each cell of each group, and in all where losses are told."""
    reply = reply_of(counts_of({}), study=study_of(), number=1) if patients is None else lost(patients, 0)
    return replace(reply, audit_groups={f"a={name}": np.full((2, 2), float(each)) for name, each in groups.items()})


@pytest.mark.parametrize(
    ("patients", "groups", "shown"),
    [
        (None, {"a1": 11, "a2": 12, "a3": 0}, {"a1": 11, "a2": 12, "a3": 0}),
        (None, {"a1": 11, "a2": 12, "a3": 10}, {"a2": 12, "OTHER": 21}),
        (None, {"a1": 11, "a2": 0, "a3": 10}, {}),
        (92, {"a1": 11, "a2": 12, "a3": 0}, {"a1": 11, "a2": 12, "a3": 0}),
        (97, {"a1": 11, "a2": 12, "a3": 0}, {}),  # five of no listed group, by what the losses are over
        (103, {"a1": 11, "a2": 12, "a3": 0}, {"a1": 11, "a2": 12, "a3": 0}),
    ],
)
def test_audit_patients_by_group_leave_like_test_patients(
    patients: float | None, groups: dict[str, float], shown: dict[str, float], tmp_path: Path
) -> None:
    study = study_of("weighting=fairfed", "weighting.params.attribute=a", "rounds=3")
    reply = without_small_cells(audited(patients, **groups), asked(study, tmp_path, number=1))
    assert {key: table[0, 0] for key, table in reply.audit_groups.items()} == {f"a={n}": v for n, v in shown.items()}


def test_audit_patients_by_group_leave_once(tmp_path: Path) -> None:
    """Two of the same patients would differ by few; who is not told keeps what was told before."""
    study = study_of("weighting=fairfed", "weighting.params.attribute=a", "rounds=3")
    first, second = audited(None, a1=30, a2=40), audited(None, a1=32, a2=40)
    asked_twice = [
        without_small_cells(reply, asked(study, tmp_path, number=n)) for n, reply in ((1, first), (2, second))
    ]
    assert [len(reply.audit_groups) for reply in asked_twice] == [2, 0]
    other_run = replace(asked(study, tmp_path, number=1), request=Request("another", "{}", 1, ""))
    assert without_small_cells(second, other_run).audit_groups


def test_nothing_is_kept_where_nothing_left(tmp_path: Path) -> None:
    few = counts_of({(0, 0, 0, 0, 0): 5})
    reply = without_small_cells(reply_of(few, study=study_of()), asked(study_of(), tmp_path))
    assert (reply.cells.shape, reply.groups, reply.alone.shape) == ((2, 0), {}, (2, 0))
    assert not list(tmp_path.glob("counted-*"))


def test_patients_with_several_notes_leave_as_whole_ones(tmp_path: Path) -> None:
    """Each adds 1 in all, over its notes: 33 thirds are eleven patients, and 10.9 are few."""
    reply = reply_of(SHOWN, study=study_of())
    for more, is_shown in ((1 / 3, True), (-19.1, False)):
        cells = reply.cells.copy()
        cells[0, 0] = 30 + more
        sent = without_small_cells(replace(reply, cells=cells, groups={}), asked(study_of(), tmp_path / str(more)))
        assert sent.cells.size == (8 if is_shown else 0)
        assert not (sent.cells % 1).any()


@pytest.mark.parametrize("positive", [0, 1])
def test_the_total_of_groups_is_taken_by_predicted_class(positive: int, tmp_path: Path) -> None:
    """Columns of groups are classes, those of cells are halves of the score: of two equal groups nobody is unlisted."""
    counts = counts_of({(label, at, 0, group, 0): 20 + 9 * at for label in (0, 1) for at in (0, 3) for group in (0, 1)})
    study = study_of("task.labels=[well,ill]", f"task.positive={('well', 'ill')[positive]}")
    reply = reply_of(counts, study=study)
    if positive == 0:
        reply = replace(reply, groups={key: table[:, ::-1] for key, table in reply.groups.items()})
    sent = without_small_cells(reply, asked(study, tmp_path))
    assert {key for key in sent.groups if key.startswith("a=")} == {"a=a1", "a=a2", "a=a3"}
    np.testing.assert_array_equal(sent.groups["a=a1"], reply.groups["a=a1"])


def test_score_bins_of_groups_are_left_where_no_group_is_merged_for_them(tmp_path: Path) -> None:
    study = study_of(f"evaluation.group_bins={BINS}")
    even = counts_of({(label, at, 0, group, 0): 12 for label in (0, 1) for at in range(BINS) for group in (0, 1)})
    whole = without_small_cells(reply_of(even, study=study, bins=BINS), asked(study, tmp_path / "whole"))
    assert {table.shape for table in whole.groups.values()} == {(2, BINS)}
    even[0, 1, 0, 1, 0] = 3
    halves = without_small_cells(reply_of(even, study=study, bins=BINS), asked(study, tmp_path / "halves"))
    assert {table.shape for table in halves.groups.values()} == {(2, 2)}
    assert {key for key in halves.groups if key.startswith("a=")} == {"a=a1", "a=a2", "a=a3"}

"""What leaves of exact counts, by the site's own rule."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app.small_cells import shown_sums, without_small_cells
from fedfm.config.site import Policy
from fedfm.examples import Example, Splits
from fedfm.wire import EvaluateReply, Request
from tests.unit.client_app.hospital import AXES, BINS, SHOWN, asked, counts_of, published, reply_of, study_of


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
        (None, {"a1": 12, "a2": 12, "a3": 10}, {"a2": 12, "OTHER": 22}),
        (None, {"a1": 11, "a2": 12, "a3": 10}, {}),
        (None, {"a1": 40, "a2": 10, "a3": 10}, {}),  # of twenty in two small groups, ten are in each
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


def test_another_study_in_the_run_shows_the_same_or_nothing(tmp_path: Path) -> None:
    """Else it would say the same patients' counts with another model, or the crossing that closes a circle."""
    first, other = (study_of("evaluation.group_bins=2", groups="a,b", pairs=pairs) for pairs in ("", "a*b"))
    counts = counts_of({(label, 3 * label, label, a, b): 40 for label in (0, 1) for a in (0, 1) for b in (0, 1)})
    sent = without_small_cells(reply_of(counts, study=first), asked(first, tmp_path))
    assert sent.cells.size
    crossed = without_small_cells(reply_of(counts, study=other), asked(other, tmp_path))
    assert (crossed.cells.shape, crossed.groups, crossed.alone.shape) == ((2, 0), {}, (2, 0))
    named = study_of("name=another", pairs="")
    again = without_small_cells(reply_of(counts, study=named), asked(named, tmp_path))
    np.testing.assert_array_equal(again.cells, sent.cells)
    assert again.groups.keys() == sent.groups.keys()


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


def test_groups_are_in_no_finer_bins_than_the_cells(tmp_path: Path) -> None:
    """The model trained alone is compared with the cells, and sums of groups are cells of the federated one."""
    even = {(label, at, label, group, 0): 24 for label in (0, 1) for at in range(2 * BINS) for group in (0, 1)}
    counts = counts_of(even, AXES | {"bin": 2 * BINS})
    study = study_of(f"evaluation.group_bins={BINS}", bins=2 * BINS)
    reply = reply_of(counts, study=study, bins=BINS)
    alone = reply.cells.copy()  # of three patients another model says something else, in the first two quarters
    alone[0, :4] += [-3, 0, 3, 0]
    whole = without_small_cells(replace(reply, alone=alone), asked(study, tmp_path / "whole"))
    assert [*{table.shape for table in whole.groups.values()}, whole.cells.shape] == [(2, BINS), (2, 2 * BINS)]
    assert whole.alone.shape == (2, 2)
    cells = reply.cells.copy()
    cells[0, :2] += [41, -41]
    halves = without_small_cells(replace(reply, cells=cells, alone=alone), asked(study, tmp_path / "halves"))
    assert [*{table.shape for table in halves.groups.values()}, halves.cells.shape] == [(2, 2), (2, 2)]
    assert halves.alone.shape == (2, 2 * BINS)


def credited(documents: float, *held: float) -> EvaluateReply:
    """Answer with a mean credit of a half for terms that so many documents hold."""
    terms = np.stack([0.5 * np.array(held), np.array(held)])
    return replace(lost(documents, documents), terms=terms)


@pytest.mark.parametrize(
    ("documents", "held", "told"),
    [
        (40, (0, 10, 11, 29, 30, 40), (0, 0, 11, 29, 0, 40)),  # neither few documents, nor all but few
        (22, (11,), (11,)),
        (21, (11,), (0,)),
        (10, (10,), None),
    ],
)
def test_terms_leave_where_neither_few_documents_hold_them_nor_all_but_few(
    documents: float, held: tuple[float, ...], told: tuple[float, ...] | None, tmp_path: Path
) -> None:
    reply = without_small_cells(credited(documents, *held), asked(study_of(), tmp_path, number=1))
    if told is None:
        assert reply.terms.shape == (2, 0)  # explanations of so few are withheld, and all that goes with them
        return
    np.testing.assert_allclose(reply.terms, [0.5 * np.array(told), told])


def test_documents_of_terms_leave_rounded_and_once(tmp_path: Path) -> None:
    """Which terms a document counts for may follow the model: two models' numbers would differ by few."""
    first, same, other = (
        without_small_cells(credited(60, *held), asked(study_of(), tmp_path, number=1, rule="redact7_round5"))
        for held in ((33, 12), (33, 12), (33, 20))
    )
    np.testing.assert_allclose(first.terms, [[17.5, 5], [35, 10]])
    np.testing.assert_array_equal(same.terms, first.terms)
    assert other.terms.shape == (2, 0)
    noised = replace(credited(60, 3), terms_sd=1.0, explanation_sd=1.0)
    assert without_small_cells(noised, asked(study_of(), tmp_path, number=1)).terms is noised.terms


@pytest.mark.parametrize(("patients", "documents", "leaves"), [(11, 11, True), (10, 10, False), (20, 11, False)])
def test_exact_sums_of_a_check_leave_as_those_of_explanations(
    patients: int, documents: int, leaves: bool, tmp_path: Path
) -> None:
    """Nine who were not looked at follow from the losses, which are told of all audit patients."""
    question: Any = asked(study_of(), tmp_path, number=1)
    audit = tuple(Example(f"p{n}", 0) for n in range(patients))
    question.prepared.splits = Splits((), audit, ())
    sums = {"comprehensiveness": 2.0, "documents": float(documents)}
    assert shown_sums(question, sums) == (sums if leaves else {})
    assert shown_sums(replace(question, site=replace(question.site, policy=Policy(small_cells="none"))), sums) == sums


def test_reasons_asked_for_in_another_way_in_the_run_are_withheld(tmp_path: Path) -> None:
    """The documents of a larger number hold those of a smaller one: the difference would be a few patients' notes."""
    reply = credited(60, 30)
    first, more, again = (
        without_small_cells(reply, asked(study_of(f"explainability.documents={number}"), tmp_path, number=1))
        for number in (60, 61, 60)
    )
    assert first.explanation["documents"] == again.explanation["documents"] == 60
    assert more.explanation == {}
    assert more.terms.shape == (2, 0)
    noised = replace(reply, explanation_sd=1.0, terms_sd=1.0)
    kept = without_small_cells(noised, asked(study_of("explainability.documents=61"), tmp_path, number=1))
    assert kept.explanation == noised.explanation

"""Sums of reasons that leave: what one patient moves, what they cost, what is told of a term, and of which lists."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from client_app.asked import Round
from client_app.ledger import Ledger
from client_app.noise import noised_sums
from client_app.reasons import before_sending, checks, explained
from client_app.reasons.checks import chosen_documents
from client_app.reasons.explained import Explained, explain
from fedfm.config.site import Explanations
from fedfm.examples import Example
from fedfm.explanations import MOST_TERMS, check_names, sum_names
from fedfm.plan import of_split, sd
from fedfm.privacy import epsilon
from fedfm.schedule import warm_up_rounds
from tests.unit.client_app.looks import Given, giving, leaning_by
from tests.unit.client_app.test_releases import asked, study_of

LISTS = ("explainability.shortcuts={tag: [film]}", "explainability.swaps={sex: {woman: man}}")
TERMS = [f"t{n}" for n in range(20)]
VOCABULARY = f"explainability.vocabulary=[{','.join(TERMS)}]"
EXTREME = (0.0, 1.0, -1.0, 1e9, -math.inf, math.inf, math.nan)

Noise = Callable[[NDArray[np.float64], float], NDArray[np.float64]]


def exactly(exact: NDArray[np.float64], sd: float) -> NDArray[np.float64]:
    return exact


@contextmanager
def seen(given: Given, noise: Noise = exactly, terms: Any = None, received: Given = lambda *_: 0.0) -> Iterator[None]:
    """Let looks give these figures, of the received model those others, and leave out the noise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedfm.explain.audit.leanings", leaning_by(received))
        patch.setattr("fedfm.explain.audit.audit", giving(given, terms))
        patch.setattr(explained, "noised_sums", noise)
        patch.setattr(before_sending, "without_what_was_learned", lambda _, of, __, **___: np.zeros(len(of)))
        yield


def released(audit: list[Example], number: int = 3, **of: Any) -> tuple[Explained, dict[str, float]]:
    """What leaves of an evaluation and of a check."""
    study = study_of("explainability.documents=1000", *LISTS, VOCABULARY, *of.pop("overrides", ()))
    question = asked(study, audit=audit, logits=zeros(audit), number=number, **of)
    release = explained.release_of_check(question)
    told = {}
    if release is not None:
        begun = before_sending.begin(question)
        found = before_sending.looked(question, begun, randomised=True)
        told, _ = explained.sums_of_check(question, found, release, documents=len(begun.documents))
    return explain(question), told


def vector(told: dict[str, float]) -> NDArray[np.float64]:
    return np.array(list(told.values()))


def rows(most: int = 8) -> st.SearchStrategy[list[Example]]:
    """Patients with one to several documents; the label stands for the document's figures."""
    of_patient = st.lists(st.tuples(st.integers(0, 3), st.integers(0, len(EXTREME) - 1)), min_size=1, max_size=most)
    return of_patient.map(
        lambda found: [
            Example(f"p{patient}", 0, text=str(figure), row=number) for number, (patient, figure) in enumerate(found)
        ]
    )


def by_text(name: str, document: Example) -> float:
    return EXTREME[(int(document.text or 0) + len(name)) % len(EXTREME)]


def by_text_before(name: str, document: Example) -> float:
    return EXTREME[(3 * int(document.text or 0) + 2) % len(EXTREME)]


def any_credits(examples: list[Example]) -> dict[int, NDArray[np.float64]]:
    """Credits as long as they may be, of as many terms as may be."""
    found = {}
    for example in examples:
        row = np.zeros(len(TERMS))
        held = np.random.default_rng(example.row).choice(len(TERMS), MOST_TERMS, replace=False)
        row[held] = np.random.default_rng([example.row, 1]).choice([-1, 1], MOST_TERMS) / math.sqrt(MOST_TERMS)
        found[example.row] = row
    return found


def check_a_unit_moves_no_more_than_stated(examples: list[Example], unit: str) -> None:
    look = seen(by_text, terms=any_credits(examples), received=by_text_before)
    with look, pytest.MonkeyPatch.context() as patch:
        patch.setattr(explained, "LEAST_PATIENTS", -math.inf)  # all terms are told, so that all are compared
        overrides = (f"privacy.unit={unit}",)
        whole, of_check = released(examples, overrides=overrides)
        units = {example.patient if unit == "patient" else example.row for example in examples}
        for gone in units:
            rest = [e for e in examples if (e.patient if unit == "patient" else e.row) != gone]
            left, of_rest = released(rest, overrides=overrides)
            moved = np.linalg.norm(vector(whole.explanation) - vector(left.explanation))
            assert moved <= math.sqrt(len(whole.explanation)) + 1e-9
            assert np.linalg.norm(vector(of_check) - vector(of_rest)) <= math.sqrt(len(of_check)) + 1e-9
            of_credits, of_documents = np.linalg.norm(whole.terms - left.terms, axis=1)
            assert of_credits <= 1 + 1e-9
            assert of_documents <= math.sqrt(MOST_TERMS) + 1e-9


@pytest.mark.parametrize("unit", ["patient", "record"])
@settings(max_examples=30, deadline=None)
@given(examples=rows())
def test_one_unit_moves_the_sums_by_at_most_what_is_stated(unit: str, examples: list[Example]) -> None:
    check_a_unit_moves_no_more_than_stated(examples, unit)


def test_the_stated_lengths_are_reached_and_one_document_counts_for_a_patient() -> None:
    """Else the noise would be more than it must be."""
    one = [Example("p0", 0, text="t", row=n) for n in range(3)]
    with seen(lambda *_: 1.0, terms=any_credits(one)), pytest.MonkeyPatch.context() as patch:
        patch.setattr(explained, "LEAST_PATIENTS", 1)
        told, of_check = released(one)
    assert set(told.explanation.values()) | set(of_check.values()) == {1.0}
    assert np.linalg.norm(told.terms, axis=1) == pytest.approx([1.0, math.sqrt(MOST_TERMS)])


def displaced(patch: pytest.MonkeyPatch) -> None:
    """The first documents of the table: who goes makes room for the next."""
    patch.setattr(checks, "chosen_documents", lambda of, *_, **__: list(of[:2]))


def every_note(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checks, "chosen_documents", lambda *of, **_: chosen_documents(*of, by_record=True))


def unbounded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checks, "_bounded", lambda of: {n: np.nan_to_num(v, posinf=9.0, neginf=-9.0) for n, v in of.items()})


@pytest.mark.parametrize("fault", [displaced, every_note, unbounded])
def test_a_fault_in_what_one_patient_moves_is_caught(
    fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = [Example(f"p{n // 2}", 0, text=str(n), row=n) for n in range(8)]
    check_a_unit_moves_no_more_than_stated(examples, "patient")
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        check_a_unit_moves_no_more_than_stated(examples, "patient")


def test_noise_is_the_plans_in_units_of_the_sensitivity() -> None:
    """Credits and numbers of documents take half of the joint squared sensitivity each."""
    question = asked(study_of(*LISTS, VOCABULARY))
    told, made = explain(question), question.plan
    assert made.terms is not None
    assert made.explanation is not None
    assert told.explanation_sd == pytest.approx(sd(made.explanation) * math.sqrt(len(sum_names(question.study))))
    joint = (1 / told.terms_sd) ** 2 + (math.sqrt(MOST_TERMS) / told.term_documents_sd) ** 2
    assert joint == pytest.approx(1 / sd(made.terms) ** 2)
    scales = []
    with seen(lambda *_: 0.0, noise=lambda exact, scale: scales.append(scale) or noised_sums(exact, scale)):
        again = explain(question)
    assert scales == [again.explanation_sd, again.terms_sd, again.term_documents_sd]
    assert tuple(again.explanation) == sum_names(question.study)


@settings(max_examples=30, deadline=None)
@given(examples=rows())
def test_a_rise_is_the_trained_model_minus_the_received_document_by_document(examples: list[Example]) -> None:
    """Within [-1, 1] whatever the figures; what does not rise does not show, however much the model leans."""
    question = asked(study_of("explainability.documents=1000", *LISTS), audit=examples, logits=zeros(examples))
    for received in (by_text_before, by_text, lambda *_: 0.0):
        with seen(by_text, received=received):
            begun = before_sending.begin(question)
            found = before_sending.looked(question, begun, randomised=False).sums
        for rise, figure in (("mass_rise:tag", "shortcut_mass:tag"), ("swap_rise:sex", "swap_shift:sex")):
            assert np.abs(found[rise]).max() <= 1
            before = [min(1.0, max(0.0, np.nan_to_num(received(figure, e)))) for e in begun.documents]
            assert found[rise].tolist() == (found[figure] - np.array(before)).tolist()
            assert received is not by_text or not found[rise].any()


def zeros(examples: list[Example]) -> dict[int, list[float]]:
    return {example.row: [0.0, 0.0] for example in examples}


def test_a_term_of_too_few_documents_is_nothing_in_both_rows() -> None:
    examples = [Example(f"p{n}", 0, text="t", row=n) for n in range(12)]
    credited = {n: np.array([0.3 if n < held else 0.0 for held in (10, 11, 12)]) for n in range(12)}
    with seen(lambda *_: 0.1, terms=credited):
        told, _ = released(examples, overrides=("explainability.vocabulary=[a,b,c]",))
    assert told.terms == pytest.approx(np.array([[0, 3.3, 3.6], [0, 11, 12]]))


def test_the_noised_number_says_whether_a_term_is_told() -> None:
    """A threshold on the exact number would tell of it."""
    examples = [Example(f"p{n}", 0, text="t", row=n) for n in range(12)]
    credited = {n: np.ones(1) for n in range(12)}
    for added, is_told in ((-2.0, False), (0.0, True)):
        with seen(lambda *_: 0.1, noise=lambda exact, _, a=added: exact + a, terms=credited):
            told, _ = released(examples, overrides=("explainability.vocabulary=[a]",))
        assert bool(told.terms.any()) is is_told


def test_only_lists_of_the_study_leave() -> None:
    question = asked(study_of(*LISTS))
    question.site.explanations = Explanations({"secret": ["bay"], "tag": ["bay"]}, {"hidden": {"a": "b"}, "sex": {}})
    with seen(lambda name, _: float("own/" not in name)):
        begun = before_sending.begin(question)
        assert begun is not None
        examples = [Example(f"p{n}", 0, text="t", row=n) for n in range(3)]
        watched = checks.with_own(question.study.explainability, question.site.explanations)
        found = checks.look(question.prepared.model, examples, question.study.explainability, watched=watched)
        assert "shortcut_mass:own/secret" in found.sums
        assert found.sums["shortcut_mass:tag"].tolist() == [1.0] * 3  # not the site's of the same name
        assert tuple(explain(question).explanation) == sum_names(question.study)
    assert not [name for name in check_names(question.study) if "secret" in name or "hidden" in name]


def test_every_release_is_charged_before_anything_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any, **__: Any) -> None:
        raise MemoryError

    one = [Example("p0", 0, text="t", row=0)]
    question = asked(study_of(VOCABULARY), audit=one, logits={0: [0.0, 0.0]}, state=tmp_path, kind=Round)
    monkeypatch.setattr("fedfm.explain.audit.audit", breaks)
    monkeypatch.setattr("fedfm.explain.audit.leanings", breaks)
    monkeypatch.setattr(before_sending, "_losses", breaks)
    for how in (explain, before_sending.begin):
        with pytest.raises(MemoryError):
            how(question)
    charged = [(charge.split, charge.purpose) for charge in Ledger(tmp_path, "a").charges()]
    assert charged == [("audit", "explanation"), ("audit", "terms"), ("audit", "check")]


def check_the_ledger_is_the_plan(state: Path) -> None:
    """Every release of reasons is charged as often as it is planned, and with the plan's noise."""
    study = study_of("rounds=4", "explainability.every=2", "explainability.check_every=3", VOCABULARY)
    with seen(lambda *_: 0.0):
        for number in range(1, study.rounds + 1):
            question = asked(study, state=state, kind=Round, number=number)
            before_sending.finish(question, before_sending.begin(question), {})
            explain(question)
    charges = [(charge.purpose, charge.round, charge.release) for charge in Ledger(state, "a").charges()]
    made = question.plan
    expected = [("explanation", n, made.explanation) for n in (2, 4)] + [("terms", n, made.terms) for n in (2, 4)]
    assert sorted(map(str, charges)) == sorted(map(str, [*expected, *(("check", n, made.check) for n in (3, 4))]))
    assert epsilon(of_split(study, made, "audit"), made.delta) <= study.privacy.audit_epsilon


def test_reasons_are_charged_as_often_as_they_are_planned(tmp_path: Path) -> None:
    check_the_ledger_is_the_plan(tmp_path)


@pytest.mark.parametrize("purpose", ["explanation", "terms", "check"])
def test_sums_that_are_not_charged_are_caught(purpose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    charge = Round.charge

    def but_one(self: Round, split: Any, named: str, release: Any) -> None:
        if named != purpose:
            charge(self, split, named, release)

    monkeypatch.setattr(Round, "charge", but_one)
    with pytest.raises(AssertionError):
        check_the_ledger_is_the_plan(tmp_path)


@pytest.mark.parametrize(
    ("share", "rounds", "spared"), [("0.2", 15, 3), ("0.2", 6, 2), ("0", 5, 0), ("1", 5, 5), ("0.01", 3, 1)]
)
def test_the_first_rounds_in_which_no_gate_counts(share: str, rounds: int, spared: int) -> None:
    """Of 15 a fifth is three, whatever floating point says."""
    assert warm_up_rounds(study_of(f"explainability.warm_up={share}", f"rounds={rounds}")) == spared

"""One site lies about the reasons of a model: it is left out by name, and the others go on without it."""

import math
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedfm import wire, wire_records
from fedfm.config.compose import study_to_json
from fedfm.errors import FedFMError
from fedfm.explanations import MOST_TERMS
from server_app.answers import Question, read_counts, read_update
from server_app.report import events, explanations
from server_app.roster import Member
from server_app.screening_explanations import screen_terms
from tests.unit.server_app.federation import (
    LAYOUT,
    PARAMETERS,
    Hospital,
    changed,
    federate,
    four_with,
    honest_reply,
    left_out,
    study_of,
    unsound,
)

LISTS = ("explainability.shortcuts={scanner: [portable film]}", "explainability.swaps={sex: {woman: man}}")
WORDS = (*LISTS, "explainability.vocabulary=[fever, chest pain, oxygen]")
ASKED = ("rounds=2", *WORDS)
TERMS = np.array([[3.0, -1.0, 0.0], [12.0, 14.0, 0.0]])


def told(answer: Any) -> Any:
    """Add credits of terms to an honest answer of the closing evaluation."""
    if answer.round != 2:
        return answer
    explanation = {**answer.explanation, "documents": 20.0}
    return replace(answer, explanation=explanation, terms=TERMS, terms_sd=0.3, term_documents_sd=0.5)


def sums(**change: float) -> Any:
    return lambda reply: replace(told(reply), explanation={**told(reply).explanation, **change})


def without(name: str) -> Any:
    def lie(reply: wire.EvaluateReply) -> wire.EvaluateReply:
        return replace(reply, explanation={key: n for key, n in reply.explanation.items() if key != name})

    return lie


def terms(table: Any, **more: Any) -> Any:
    return lambda reply: replace(told(reply), terms=np.array(table, dtype=np.float64), **more)


BAD_NUMBERS = (1e308, -1e308, math.inf, -math.inf)
OF_EVALUATION: dict[str, tuple[Any, str]] = {
    **{f"documents {n:g}": (sums(documents=n), "ROUND-E015") for n in (*BAD_NUMBERS, -2.0, 700.0)},
    **{f"a sum {n:g}": (sums(comprehensiveness=n), "ROUND-E015") for n in (*BAD_NUMBERS, 23.0, -23.0)},
    **{f"a share {n:g}": (sums(**{"shortcut_share:scanner": n}), "ROUND-E015") for n in (-1.5, 23.0, math.inf)},
    **{f"noise {n:g}": (changed(explanation_sd=n), "ROUND-E015") for n in (-1.0, 0.0, 2e4, 1e308, math.inf)},
    "a sum that nobody asked for": (sums(**{"shortcut_mass:ward": 1.0}), "ROUND-E014"),
    "a name without end": (sums(**{"x" * 100_000: 1.0}), "ROUND-E014"),
    "a figure of the other kind": (sums(randomised_head=1.0), "ROUND-E014"),
    "a sum too few": (without("swap_flip:sex"), "ROUND-E014"),
    "no documents": (without("documents"), "ROUND-E014"),
    "other terms": (terms(TERMS[:, :2]), "ROUND-E014"),
    "more terms": (terms(np.zeros((2, 10_000))), "ROUND-E014"),
    "another table": (terms(np.zeros((3, 3))), "ROUND-E014"),
    "an infinite credit": (terms([[math.inf, 0, 0], [12.0, 14.0, 0]]), "ROUND-E015"),
    "a credit that is no number": (terms([[math.nan, 0, 0], [12.0, 14.0, 0]]), "ROUND-E015"),
    "a credit beyond its documents": (terms([[21.0, 0, 0], [12.0, 14.0, 0]]), "ROUND-E015"),
    "more documents than were explained": (terms([[3.0, 0, 0], [12.0, 30.0, 0]]), "ROUND-E015"),
    "documents below the noise": (terms([[3.0, 0, 0], [12.0, -6.0, 0]]), "ROUND-E015"),
    "credits longer than the documents": (terms([[19.0, 19.0, 19.0], [20.0, 20.0, 20.0]]), "ROUND-E015"),
    **{f"terms_sd {n:g}": (terms(TERMS, terms_sd=n), "ROUND-E015") for n in (-1.0, 0.0, 2e4, math.inf)},
    **{
        f"term_documents_sd {n:g}": (terms(TERMS, term_documents_sd=n), "ROUND-E015")
        for n in (-1.0, 0.0, 2e4, math.inf)
    },
}


study = cache(study_of)


def code_of(kind: str, lie: Any, *overrides: str, number: int = 2) -> str:
    """Return the code that an answer of one site is refused with; it must be refused in few words."""
    asked, hospital = study(*overrides), Hospital()
    request = wire.Request("run-1", study_to_json(asked), number, LAYOUT, PARAMETERS)
    reply = lie(honest_reply(kind, "b1", hospital, request))
    question = Question(asked, number, Member("b1", 1, hospital.patients), set())
    write = wire_records.train_reply_to_records if kind == "train" else wire_records.evaluate_reply_to_records
    read: Any = partial(read_update, like=PARAMETERS) if kind == "train" else read_counts
    with pytest.raises(FedFMError) as caught:
        read(message(write(reply)), question)
    assert len(str(caught.value)) < 1000
    return caught.value.code


def message(content: Any) -> Any:
    """Stand for Flower's message, which cannot be made outside a run."""
    return SimpleNamespace(content=content)


@pytest.mark.parametrize("lie", OF_EVALUATION)
def test_a_lie_about_the_global_models_reasons_is_refused(lie: str) -> None:
    change, code = OF_EVALUATION[lie]
    assert code_of("evaluate", change, *ASKED) == code


def test_a_lie_about_reasons_costs_only_the_liar(tmp_path: Path) -> None:
    def in_last(change: Any) -> Any:
        return lambda reply: change(reply) if reply.round == 2 else reply

    liar = Hospital(evaluate=in_last(sums(documents=math.inf)))
    both = {
        **four_with(liar, others=Hospital(evaluate=told)),
        "e1": Hospital(train=in_last(changed(downweighted=True))),
    }
    outcome = federate(both, tmp_path, *ASKED)
    assert outcome.error is None
    assert left_out(outcome) == [("e1", 2, "training", "ROUND-E014"), ("b1", 2, "evaluation", "ROUND-E015")]
    assert set(outcome.of(events.RoundCombined)[1].weights) == {"a1", "b1", "c1", "d1"}
    (explained,) = outcome.of(explanations.ModelExplained)
    assert explained.documents == 3 * 20 + 8


def check(*, downweighted: bool = False, **change: float) -> Any:
    return lambda reply: replace(reply, check={**reply.check, **change}, downweighted=downweighted)


OF_EXPLANATION = {"documents": 60.0, "completeness_error": 60.0}
"""Credits of no document add up, which says nothing against the model."""


OF_CHECKS: dict[str, tuple[Any, str]] = {
    **{f"documents {n:g}": (check(documents=n), "ROUND-E015") for n in (*BAD_NUMBERS, -2.0, 700.0)},
    **{f"a sum {n:g}": (check(comprehensiveness=n), "ROUND-E015") for n in (*BAD_NUMBERS, 10.5, -10.5)},
    **{f"noise {n:g}": (changed(check_sd=n), "ROUND-E015") for n in (-1.0, 2e4, 1e308, math.inf)},
    **{f"a rise {n:g}": (check(**{"swap_rise:sex": n}), "ROUND-E015") for n in (*BAD_NUMBERS, 10.5, -10.5)},
    "a sum that nobody asked for": (check(**{"swap_rise:ward": 0.0}), "ROUND-E014"),
    "a figure of the global model": (check(**{"swap_flip:sex": 0.0}), "ROUND-E014"),
    "half a weight for nothing": (changed(downweighted=True), "ROUND-E014"),
    "half a weight and no check": (changed(downweighted=True, check={}), "ROUND-E014"),
    "half a weight for noise": (lambda reply: unsound(reply, check_sd=30.0, downweighted=True), "ROUND-E014"),
    "half a weight for the explanation": (check(**OF_EXPLANATION, downweighted=True), "ROUND-E014"),
}


@pytest.mark.parametrize("lie", OF_CHECKS)
def test_a_lie_about_the_sites_own_reasons_is_refused(lie: str) -> None:
    change, code = OF_CHECKS[lie]
    assert code_of("train", change, "rounds=2", *LISTS) == code


UNASKED = {
    "a check": ("train", changed(check={"documents": 8.0})),
    "half a weight": ("train", changed(downweighted=True)),
    "sums": ("evaluate", changed(explanation={"documents": 8.0})),
    "terms": ("evaluate", changed(terms=np.zeros((2, 3)))),
}


@pytest.mark.parametrize("what", UNASKED)
@pytest.mark.parametrize("overrides", [("explainability=none", "rounds=1"), ("rounds=2", *WORDS)])
def test_what_nobody_asked_for_in_this_round_is_not_taken(what: str, overrides: tuple[str, ...]) -> None:
    kind, change = UNASKED[what]
    assert code_of(kind, change, *overrides, number=1) == "ROUND-E014"


def test_a_site_may_withhold_and_may_ask_for_half_where_its_sums_fail(tmp_path: Path) -> None:
    silent = Hospital(train=changed(check={}, check_sd=0.0), evaluate=changed(explanation={}, explanation_sd=0.0))
    failing = Hospital(train=partial(unsound, downweighted=True), evaluate=told)
    outcome = federate({"a1": Hospital(), "b1": silent, "c1": failing}, tmp_path, *ASKED)
    assert not left_out(outcome)


def test_half_a_weight_is_not_taken_in_the_first_rounds() -> None:
    asked, half = ("rounds=2", "explainability.check_every=1", *LISTS), partial(unsound, downweighted=True)
    assert code_of("train", half, *asked, number=1) == "ROUND-E014"


@pytest.mark.parametrize("seed", range(20))
def test_terms_that_an_honest_site_may_draw_pass(seed: int) -> None:
    """Documents of full length and most terms, noise of every size, and only what looks like eleven is shown."""
    rng = np.random.default_rng(seed)
    documents, size = int(rng.integers(1, 200)), int(rng.integers(20, 5000))
    rows = np.zeros((documents, size))
    chosen = np.array([rng.choice(size, MOST_TERMS, replace=False) for _ in range(documents)])
    np.put_along_axis(rows, chosen, rng.choice([-1.0, 1.0], chosen.shape) / 4, axis=1)  # 16 of 1/4: length 1
    sd = (float(rng.uniform(0, 20)), float(rng.uniform(0, 80)))
    credited = rows.sum(axis=0) + rng.normal(0, sd[0], size)
    held = (rows != 0).sum(axis=0) + rng.normal(0, sd[1], size)
    table = np.where(held >= 11, np.stack([credited, held]), 0.0)
    screen_terms(table, sd, size=size, declared_patients=100, documents=float(documents))

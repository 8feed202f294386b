"""What is said of a document's reasons where there is little to say."""

import dataclasses

import numpy as np
import pytest

from client_app.reasons.explained_words import LEVELS, answer, figures, levels, strongest, verdict
from client_app.reasons.explaining import RANDOM_ORDERS, Document, Swapped
from fedfm.examples import Example

PLAIN = Document(
    example=Example("p", 0, text="a b c"),
    split="audit",
    label="well",
    predicted="ill",
    probability=0.75,
    names=("a", "b", "c"),
    credits=np.array([0.5, -1.0, 0.0]),
    comprehensiveness=0.4,
    random=np.linspace(-0.1, 0.3, RANDOM_ORDERS),
    sufficiency=0.1,
    completeness_error=0.05,
    swaps={"sex": Swapped(0.2, flips=True), "site": None},
    shortcuts={"tag": (0.4, 0.1), "ward": (0.0, 0.0)},
)


def but(**how: object) -> Document:
    return dataclasses.replace(PLAIN, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (PLAIN, "more than on words in each of 19"),
        (but(comprehensiveness=0.3), "Do not rely on this colouring"),
        (but(probability=None), "no finite answer"),
        (but(names=(), credits=np.zeros(0)), "reads no word"),
        (but(credits=np.zeros(3)), "No word has any credit"),
        (but(credits=np.full(3, 0.25)), "All have the same credit"),
    ],
)
def test_each_document_has_one_verdict(document: Document, told: str) -> None:
    assert told in verdict(document)
    assert document.is_faithful == (document is PLAIN or "same credit" in told)


def test_strengths_are_parts_of_the_largest_credit() -> None:
    assert levels(PLAIN.credits).tolist() == [round(LEVELS / 2), -LEVELS, 0]
    assert levels(np.zeros(2)).tolist() == [0, 0]
    assert levels(np.zeros(0)).tolist() == []


def test_what_is_said_of_each_figure() -> None:
    told = dict(figures(PLAIN))
    assert told["drop without words in random order"] == "+0.100 on average (-0.100 to +0.300)"
    assert told["completeness error"] == "0.050 of what they explain"
    assert told["exchanging sex"] == "moves the probability by 0.200; the answer CHANGES"
    assert told["exchanging site"] == "has nothing to exchange here"
    assert told["credit on tag"] == "40% of all credit, on 10% of the words"
    assert figures(but(probability=None, completeness_error=float("nan"))) == []
    assert told["credit on ward"] == "has none of its words here"
    assert "do not trust" in dict(figures(but(completeness_error=0.2)))["completeness error"]
    assert "infinite" in dict(figures(but(completeness_error=float("inf"))))["completeness error"]
    assert "need not" in dict(figures(but(completeness_error=None)))["completeness error"]


def test_the_answer_and_the_strongest_words() -> None:
    assert answer(PLAIN) == "Predicted ill, probability 0.750; the table says well."
    assert answer(but(label="ill")) == "Predicted ill, probability 0.750; as the table says."
    assert strongest(PLAIN) == (["a +0.500"], ["b -1.000"])

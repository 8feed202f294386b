"""Text of others is shown whole, and steers nothing."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_app.reasons.readable import pieces, readable, unread
from fedfm.examples import Example
from fedfm.model.classifier import Classifier
from tests.unit.fedfm.explained_cases import text_model


@given(st.text())
def test_nothing_that_steers_is_left(text: str) -> None:
    shown = readable(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs") and c not in "\t\n"]
    assert not [c for c in shown if unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI")]
    assert len(shown) == len(text.replace("\r\n", "\n"))


@pytest.fixture(scope="module")
def model() -> Classifier:
    return text_model()


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=300) | st.text("ab .\x00\n\u0301\u4e2d", max_size=300))
def test_the_parts_of_any_text_are_the_text_and_its_words_in_order(model: Classifier, text: str) -> None:
    (names,) = model.inputs([Example("p", 0, text=text)]).names
    parts = list(pieces(text, names))
    assert "".join(part for part, _ in parts) == text
    assert [place for _, place in parts if place is not None] == list(range(len(names)))
    assert [part for part, place in parts if place is not None] == list(names)
    assert unread(text, names) <= len(text)


def test_how_much_is_not_read() -> None:
    assert unread("a b  cd e ", ["a", "b"]) == 4
    assert unread("a b \n", ["a", "b"]) == 0
    assert unread("", []) == 0
    assert unread("a", []) == 1

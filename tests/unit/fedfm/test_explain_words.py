"""Words, phrases and terms against a plain search, the tokenizer's own splitting, and texts that break things."""

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import BertPreTokenizer

from fedfm.config.study import Adapter
from fedfm.examples import Example
from fedfm.explain.attribution import Attribution, Method, attribute
from fedfm.explain.shortcuts import enrichment, mass_and_share
from fedfm.explain.terms import term_credits
from fedfm.explain.words import WORD, matches, occurrences, shares, word_credits
from fedfm.explanations import MOST_TERMS
from fedfm.model.build import build_model
from tests.unit.fedfm.model_cases import COLUMNS, LOGISTIC, NOTES, ROWS, TEXT, TINY, shaken

letters = st.text("aAbBéßÄ.,-_+*()[]{}|\\^$? \u0130\u0131\u0301\u80ba\n", max_size=6)
names = st.lists(st.text("aAbBé.-_", min_size=1, max_size=3), max_size=12)
phrases = st.lists(letters, max_size=6)
numbers = st.floats(allow_nan=True, allow_infinity=True)


def flat(found: list[list[int]]) -> list[int]:
    return [place for places in found for place in places]


# Marks that are younger than the tokenizers' table, which takes them for letters, and one that has changed sides.
YOUNGER = "\u061d\u09fd\u0a76\u0c77\u0c84\u166d\u1b7d\u1b7e"
known = st.characters(max_codepoint=0x2E42, exclude_categories=("Cc", "Cf", "Cn"), exclude_characters=YOUNGER)


@given(st.text(known, max_size=30))
def test_a_text_is_split_as_the_tokenizer_splits_it(text: str) -> None:
    assert WORD.findall(text) == [word for word, _ in BertPreTokenizer().pre_tokenize_str(text)]


@pytest.mark.parametrize(
    ("text", "phrase", "expected"),
    [
        ("Portable FILM of the chest", "portable film", [[0, 1]]),
        ("portable films", "portable film", []),
        ("a film, portable", "portable film", []),
        ("x-ray and X - ray", "x-ray", [[0, 1, 2], [4, 5, 6]]),
        ("ward 3, bed 4", "ward 3, bed 4", [[0, 1, 2, 3, 4]]),
        ("seen at [SCAN.7]+ today", "[scan.7]+", [[2, 3, 4, 5, 6, 7]]),
        ("seen at SCANX7 today", "scan.7", []),
        ("Straße CAFÉ", "STRASSE", [[0]]),
        ("cafe\u0301 noir", "Café", [[0]]),
        ("cafe\u0301 noir", "cafe", []),
        ("\u80ba\u708e today", "\u80ba\u708e", [[0, 1]]),
        ("a a a", "a a", [[0, 1]]),
        ("", "a", []),
        ("a", "", []),
        ("a", " \n", []),
        ("a b", "a b c", []),
        ("heart", "heart_rate", []),
    ],
)
def test_where_a_phrase_stands(text: str, phrase: str, expected: list[list[int]]) -> None:
    assert occurrences(WORD.findall(text), [phrase]) == expected


def test_of_phrases_that_begin_together_the_longest_stands() -> None:
    words = ["acute", "chest", "pain", ",", "chest", "wall"]
    assert occurrences(words, ["chest", "pain", "chest pain"]) == [[1, 2], [4]]
    assert matches(words, ["chest", "chest pain", "Chest"]) == [(1, [1, 2]), (0, [4])]


def test_a_column_is_one_word_however_it_is_spelt() -> None:
    columns = ["heart_rate", "heart.rate.max", "age"]
    assert occurrences(columns, ["heart_rate"]) == [[0]]
    assert occurrences(columns, ["heart.rate.max"]) == [[1]]
    assert occurrences(columns, ["heart", "rate", "heart.rate", "max"]) == []


@given(words=names, listed=phrases)
def test_occurrences_are_whole_words_apart_and_complete(words: list[str], listed: list[str]) -> None:
    found = matches(words, listed)
    places = flat([places for _, places in found])
    assert places == sorted(set(places))
    for which, at in found:
        assert at == list(range(at[0], at[-1] + 1))
        alone = [words[place] for place in at]
        assert occurrences(alone, [listed[which]]) == [list(range(len(at)))]
    left = [name if place not in places else "|" for place, name in enumerate(words)]
    assert occurrences(left, [phrase for phrase in listed if "|" not in phrase]) == []


@given(words=names, listed=phrases, data=st.data())
def test_the_order_of_the_phrases_does_not_matter(words: list[str], listed: list[str], data: st.DataObject) -> None:
    assert occurrences(words, data.draw(st.permutations(listed))) == occurrences(words, listed)


def test_credits_of_words_are_the_sums_of_their_pieces() -> None:
    model = shaken(build_model(TINY, Adapter(method="lora", rank=3, layers=1), TEXT, seed=1))
    inputs = model.inputs(NOTES)
    attributed = attribute(model, inputs, Method(steps=3))
    for row, example in enumerate(NOTES):
        found = word_credits(attributed, inputs, row)
        assert inputs.names[row] == tuple(re.findall(r"\w+|[^\w\s]", example.text or ""))
        for place in range(len(found)):
            units = (inputs.words[row] == place).nonzero().flatten()
            assert found[place] == pytest.approx(attributed.credits[row, units].double().sum().item(), abs=1e-9)
        assert found.sum() == pytest.approx(attributed.credits[row].sum().item(), abs=1e-5)
    assert len(word_credits(attributed, inputs, 3)) == 0  # the empty note
    assert (inputs.words[2] == 0).sum() > 1  # a word of several pieces is among them


def test_credits_of_columns_are_those_of_their_units() -> None:
    model = shaken(build_model(LOGISTIC, Adapter(method="full"), COLUMNS, seed=1))
    inputs = model.inputs(ROWS)
    attributed = attribute(model, inputs, Method(steps=2))
    assert word_credits(attributed, inputs, 0).tolist() == attributed.credits[0].double().tolist()
    assert occurrences(inputs.names[0], ["CHOL"]) == [[1]]


def test_credits_that_are_no_numbers_count_nothing() -> None:
    units: Any = SimpleNamespace(words=torch.tensor([[0, 0, 1, -1]]), names=(("a", "b", "unread"),))
    attributed = Attribution(torch.tensor([0]), torch.tensor([[float("nan"), 2.0, float("inf"), 5.0]]), None)
    assert word_credits(attributed, units, 0).tolist() == [2.0, 0.0, 0.0]


@given(st.lists(numbers, max_size=8))
def test_shares_are_shares(values: list[float]) -> None:
    found = shares(np.array(values))
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    usable = [value for value in values if np.isfinite(value) and value != 0]
    assert found.sum() == pytest.approx(1.0 if usable else 0.0)


def test_mass_and_share_by_hand() -> None:
    words = ["portable", "film", "shows", "sepsis"]
    found = mass_and_share(np.array([3.0, -1.0, 0.0, 4.0]), words, ["portable film"])
    assert found == (pytest.approx(0.5), 0.5)
    assert enrichment(*found) == pytest.approx(1.0)
    assert mass_and_share(np.array([2.0, 2.0, 0.0, 0.0]), words, ["film", "film", "portable film"]) == (1.0, 0.5)
    assert mass_and_share(np.zeros(4), words, ["film"]) == (0.0, 0.25)
    assert mass_and_share(np.ones(4), words, ["ward"]) == (0.0, 0.0)
    assert mass_and_share(np.zeros(0), [], ["film"]) == (0.0, 0.0)
    assert enrichment(0.0, 0.0) is None


@given(words=names, listed=phrases, data=st.data())
def test_mass_and_share_are_in_bounds(words: list[str], listed: list[str], data: st.DataObject) -> None:
    values = np.array(data.draw(st.lists(numbers, min_size=len(words), max_size=len(words))))
    for figure in mass_and_share(values, words, listed):
        assert 0 <= figure <= 1


def test_terms_by_hand() -> None:
    words = ["no", "chest", "pain", ",", "pain", "today"]
    credits_, holds = term_credits(
        np.array([1.0, 2.0, -1.0, 0.0, -4.0, 2.0]), words, ["pain", "chest pain", "sepsis", "Pain", ","]
    )
    np.testing.assert_allclose(credits_, [-0.4, 0.1, 0, 0, 0])
    assert holds.tolist() == [True, True, False, False, True]


def test_of_many_terms_those_with_most_credit_stay_and_of_equals_the_first() -> None:
    count = MOST_TERMS + 6
    words = [f"t{i}" for i in range(count)]
    values = np.ones(count)
    values[[-1, -3]] = 2.0, -3.0
    credits_, holds = term_credits(values, words, words)
    assert np.flatnonzero(holds).tolist() == [*range(MOST_TERMS - 2), count - 3, count - 1]
    np.testing.assert_allclose(credits_[[0, count - 3]], [1 / (count + 3), -3 / (count + 3)])
    none, still = term_credits(np.zeros(count), words, words)
    assert not none.any()
    assert np.flatnonzero(still).tolist() == list(range(MOST_TERMS))


@settings(max_examples=200)
@given(words=names, listed=phrases, data=st.data())
def test_terms_are_bounded_and_follow_the_vocabulary(words: list[str], listed: list[str], data: st.DataObject) -> None:
    values = np.array(data.draw(st.lists(numbers, min_size=len(words), max_size=len(words))))
    credits_, holds = term_credits(values, words, listed)
    assert credits_.shape == holds.shape == (len(listed),)
    assert np.linalg.norm(credits_) <= 1 + 1e-12
    assert np.abs(credits_).sum() <= 1 + 1e-12
    assert not credits_[~holds].any()
    assert holds.sum() <= MOST_TERMS
    if len(listed) == len({tuple(map(str.casefold, WORD.findall(phrase))) for phrase in listed}):
        order = data.draw(st.permutations(range(len(listed))))
        again, held = term_credits(values, words, [listed[i] for i in order])
        assert np.array_equal(held, holds[order])
        np.testing.assert_allclose(again, credits_[order], atol=1e-15)


def test_an_example_without_words_has_none() -> None:
    model = build_model(TINY, Adapter(method="head"), TEXT, seed=1)
    inputs = model.inputs([Example("p", 0, text="  \n")])
    found = word_credits(attribute(model, inputs, Method(steps=2)), inputs, 0)
    assert mass_and_share(found, inputs.names[0], ["a"]) == (0.0, 0.0)
    assert not term_credits(found, inputs.names[0], ["a"])[1].any()

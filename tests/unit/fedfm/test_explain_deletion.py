"""Deletion against a plain recomputation word by word, closed forms, brute force, and orders without reason."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfm.examples import Example
from fedfm.explain.deletion import (
    BINS,
    credited_order,
    deletions,
    drops,
    leave_one_out,
    normalised,
    paired_deletions,
    random_order,
    words_of,
)
from fedfm.model.classifier import Classifier, Inputs
from tests.unit.fedfm.judged_cases import WORDS, columns_model, credits_of, notes, rows, sigmoid, text_model


def orders_of(model: Classifier, inputs: Inputs) -> tuple[torch.Tensor, list[np.ndarray]]:
    target, credits_ = credits_of(model, inputs)
    return target, [credited_order(inputs, row, found) for row, found in enumerate(credits_)]


def chance(model: Classifier, inputs: Inputs, present: torch.Tensor, target: torch.Tensor) -> float:
    """Return the target's probability with absent units kept in the row: nothing is packed or sorted."""
    with torch.no_grad():
        return float(model.logits_from_inputs(inputs.values, present).softmax(-1)[0, int(target)])


def test_a_linear_model_by_hand() -> None:
    """Ten columns; 1, 5 and 10 % are one of them, 20 % two, 50 % five, the largest credits first."""
    weights = [0.1, 2.0, -1.0, 0.3, 0.0, 1.0, -0.2, 0.4, 0.5, 0.05]
    model = columns_model(weights)
    inputs = model.inputs([Example("p", 1, columns=(1.0,) * 10)])
    target, orders = orders_of(model, inputs)
    assert orders[0].tolist() == np.argsort(-np.array(weights), kind="stable").tolist()
    comprehensiveness, sufficiency = deletions(model, inputs, target, orders)
    full, ordered, cuts = sum(weights), sorted(weights, reverse=True), (1, 1, 1, 2, 5)
    without = [sigmoid(full) - sigmoid(full - sum(ordered[:k])) for k in cuts]
    alone = [sigmoid(full) - sigmoid(sum(ordered[:k])) for k in cuts]
    assert comprehensiveness.tolist() == pytest.approx([np.mean(without)], abs=1e-6)
    assert sufficiency.tolist() == pytest.approx([np.mean(alone)], abs=1e-6)


def test_equal_to_a_plain_recomputation_word_by_word() -> None:
    model, examples = text_model(), notes(9, seed=3)
    inputs = model.inputs(examples)
    target, orders = orders_of(model, inputs)
    found = np.stack(deletions(model, inputs, target, orders))
    pieces = 0
    for row, example in enumerate(examples):
        one = model.inputs([example])
        everything = chance(model, one, one.present, target[row])
        plain = np.zeros((2, len(BINS)))
        for which, share in enumerate(BINS):
            first = orders[row][: math.ceil(share * len(orders[row]))].tolist()
            is_first = torch.tensor([[word in first for word in one.words[0].tolist()]])
            pieces += int(is_first.sum()) - len(first)
            without, alone = one.present & ~is_first, one.present & (is_first | (one.words < 0))
            plain[:, which] = [everything - chance(model, one, kept, target[row]) for kept in (without, alone)]
        np.testing.assert_allclose(found[:, row], plain.mean(1), atol=1e-5)
    assert pieces > 10  # words of several pieces went as one
    assert len(set(found[0].round(4))) > 5


def test_a_random_order_beside_is_the_same_as_alone() -> None:
    model = text_model()
    inputs = model.inputs(notes(12, seed=4))
    target, orders = orders_of(model, inputs)
    random = [random_order(inputs, row, seed=row) for row in range(len(orders))]
    together = paired_deletions(model, inputs, target, orders=orders, random=random)
    comprehensiveness, sufficiency = deletions(model, inputs, target, orders)
    np.testing.assert_allclose(together.comprehensiveness, comprehensiveness, atol=1e-6)
    np.testing.assert_allclose(together.sufficiency, sufficiency, atol=1e-6)
    np.testing.assert_allclose(together.random_order, deletions(model, inputs, target, random)[0], atol=1e-6)
    assert np.abs(together.random_order - comprehensiveness).max() > 0.01


def test_equal_credits_go_in_reading_order_and_each_document_has_its_own_random_one() -> None:
    model = text_model()
    inputs = model.inputs([Example("a", 0, text=" ".join(WORDS)), Example("b", 0, text=" ".join(WORDS[:4]))])
    assert credited_order(inputs, 0, np.zeros(10)).tolist() == list(range(10))
    assert credited_order(inputs, 0, np.array([0, 1, 0, 2, 1, 0, 0, 0, 0, 0.0])).tolist()[:4] == [3, 1, 4, 0]
    alone = model.inputs([Example("a", 0, text=" ".join(WORDS))])
    assert random_order(inputs, 0, seed=5).tolist() == random_order(alone, 0, seed=5).tolist()
    assert random_order(inputs, 0, seed=5).tolist() != random_order(inputs, 0, seed=6).tolist()
    assert sorted(random_order(inputs, 0, seed=5)) == list(range(10))


def test_leave_one_out_is_what_its_name_says_and_best_at_the_first_word() -> None:
    model = text_model()
    inputs = model.inputs(notes(6, seed=8))
    target, _ = orders_of(model, inputs)
    effects = leave_one_out(model, inputs, target)
    first = 0
    for row, effect in enumerate(effects):
        assert len(effect) == len(inputs.names[row])
        for word in range(len(effect)):
            kept = inputs.present[row : row + 1] & (inputs.words[row : row + 1] != word)
            one = Inputs(*(getattr(inputs, name)[row : row + 1] for name in vars(inputs)))
            plain = chance(model, one, one.present, target[row]) - chance(model, one, kept, target[row])
            assert effect[word] == pytest.approx(plain, abs=1e-5)
        if len(effect):
            order = credited_order(inputs, row, effect)
            assert effect[order[0]] == max(effect)
            first += len(effect) > 1
    assert first > 3


def test_leave_one_out_is_at_least_as_comprehensive_as_any_order_of_a_linear_model() -> None:
    """There effects of words add up, so the greedy order is the best of all at every bin."""
    model, examples = columns_model([1.5, -1.0, 0.5, 1.0, 0.3, 0.7]), rows(20, seed=1, columns=6)
    inputs = model.inputs(examples)
    target, _ = orders_of(model, inputs)
    best = [credited_order(inputs, row, effect) for row, effect in enumerate(leave_one_out(model, inputs, target))]
    reached, _ = deletions(model, inputs, target, best)
    for seed in range(30):
        other, _ = deletions(model, inputs, target, [random_order(inputs, row, seed=seed) for row in range(20)])
        assert (reached >= other - 1e-6).all()


def test_leave_one_out_beats_integrated_gradients_and_chance_on_text() -> None:
    model = text_model()
    inputs = model.inputs([note for note in notes(50, seed=9) if len(note.text or "") > 20])
    target, orders = orders_of(model, inputs)
    random = [random_order(inputs, row, seed=row) for row in range(len(orders))]
    found = paired_deletions(model, inputs, target, orders=orders, random=random)
    best = [credited_order(inputs, row, effect) for row, effect in enumerate(leave_one_out(model, inputs, target))]
    reached, _ = deletions(model, inputs, target, best)
    assert reached.mean() > max(found.comprehensiveness.mean(), found.random_order.mean()) + 0.05


def test_normalised_is_one_for_the_best_order_and_less_for_others() -> None:
    model, examples = columns_model([4.0] + [0.1] * 9), rows(12, seed=2, columns=10)
    inputs = model.inputs(examples)
    target, orders = orders_of(model, inputs)
    comprehensiveness, _ = deletions(model, inputs, target, orders)
    assert normalised(model, inputs, target, comprehensiveness) == pytest.approx(1.0, abs=1e-5)
    assert normalised(model, inputs, target, comprehensiveness / 2) == pytest.approx(0.5, abs=1e-5)
    nothing = columns_model([0.0] * 10)
    assert normalised(nothing, inputs, target, np.zeros(12)).tolist() == [0.0] * 12


@pytest.mark.parametrize("text", ["", "   ", "..."])
def test_little_or_no_text(text: str) -> None:
    model = text_model()
    inputs = model.inputs([Example("p", 0, text=text), Example("q", 0, text="sepsis")])
    target, orders = orders_of(model, inputs)
    found = paired_deletions(model, inputs, target, orders=orders, random=orders)
    assert all(np.isfinite(figures).all() for figures in vars(found).values())
    if not len(words_of(inputs, 0)):
        assert [figures[0] for figures in vars(found).values()] == [0.0] * 3
        assert leave_one_out(model, inputs, target)[0].tolist() == []
    assert found.comprehensiveness[1] != 0  # one word: it goes at every share
    assert found.sufficiency[1] == 0


def test_a_note_longer_than_the_window_is_judged_by_what_is_read() -> None:
    model = text_model()
    words = " ".join(WORDS * 100)
    inputs = model.inputs([Example("p", 0, text=words)])
    target, orders = orders_of(model, inputs)
    assert 50 < len(orders[0]) == len(inputs.names[0]) < 256
    found, _ = deletions(model, inputs, target, orders)
    read = model.inputs([Example("p", 0, text=" ".join(inputs.names[0]))])
    again, _ = deletions(model, read, *orders_of(model, read))
    np.testing.assert_allclose(found, again, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 9))
def test_bounds_and_the_order_of_documents(seed: int, count: int) -> None:
    model, examples = text_model(), notes(count, seed=seed)
    found = []
    for some in (examples, examples[::-1]):
        inputs = model.inputs(some)
        target, orders = orders_of(model, inputs)
        both = np.stack(deletions(model, inputs, target, orders))
        assert both.shape == (2, count)
        assert (np.abs(both) <= 1).all()
        found.append(both)
    np.testing.assert_allclose(found[0], found[1][:, ::-1], atol=2e-5)


def test_equal_subsets_are_computed_once_and_nothing_deleted_is_exactly_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, passed = text_model(), []
    inputs = model.inputs(notes(5, seed=2))
    real = model.logits_from_inputs
    monkeypatch.setattr(model, "logits_from_inputs", lambda v, p: passed.append(len(v)) or real(v, p))
    target = torch.zeros(5, dtype=torch.int64)
    found = drops(model, inputs, target, inputs.present.expand(7, -1, -1))
    assert sum(passed) == 5
    assert found.tolist() == [[0.0] * 5] * 7

"""Sparsity, stability and the gap between groups: closed forms, planted differences, and nothing to measure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedfm.config.study import Adapter, Task
from fedfm.examples import Example
from fedfm.explain.attribution import Method
from fedfm.explain.between_groups import largest_difference
from fedfm.explain.sparsity import effective_words, gini
from fedfm.explain.stability import stability_between, stability_under_noise
from fedfm.model.build import build_model
from fedfm.model.classifier import Classifier
from tests.unit.fedfm.model_cases import COLUMNS, LOGISTIC, NOTES, ROWS, TINY, shaken

BOTH = Task(inputs="text", labels=["well", "ill"])
METHOD = Method(steps=3)


def text_model(seed: int) -> Classifier:
    return shaken(build_model(TINY, Adapter(method="lora"), BOTH, seed=seed))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_sparsity_in_closed_form(count: int) -> None:
    one = np.eye(count)[0] * -3.0
    assert gini(one) == pytest.approx((count - 1) / count)
    assert effective_words(one) == pytest.approx(1)
    assert gini(np.full(count, 2.0)) == pytest.approx(0)
    assert effective_words(np.full(count, -2.0)) == pytest.approx(count)
    assert gini(np.zeros(count)) == effective_words(np.zeros(count)) == 0


def test_sparsity_by_hand() -> None:
    values = np.array([1.0, -2.0, 5.0])
    assert gini(values) == pytest.approx(sum(abs(a - b) for a in (1, 2, 5) for b in (1, 2, 5)) / (2 * 9 * 8 / 3))
    # 1/8, 2/8 and 5/8: each to the power of minus itself, multiplied.
    assert effective_words(values) == pytest.approx(8**0.125 * 4**0.25 * 1.6**0.625)
    assert gini(np.zeros(0)) == effective_words(np.zeros(0)) == 0


@given(arrays(np.float64, st.integers(0, 9), elements=st.floats(allow_nan=True, allow_infinity=True)))
def test_sparsity_is_bounded_and_free_of_order(values: np.ndarray) -> None:
    assert 0 <= gini(values) <= 1
    assert 0 <= effective_words(values) <= len(values) + 1e-9
    assert gini(values[::-1]) == pytest.approx(gini(values))
    assert effective_words(-values[::-1]) == pytest.approx(effective_words(values))


def test_noise_of_no_size_changes_nothing_and_more_noise_changes_more() -> None:
    model = text_model(1)
    still, little, much = (
        stability_under_noise(model, NOTES, method=METHOD, radius=radius, top=3, rng=np.random.default_rng(0))
        for radius in (0.0, 0.02, 3.0)
    )
    assert still.is_defined.tolist() == [True, False, True, False, True]  # one word, and none
    assert still.correlation[still.is_defined].tolist() == [pytest.approx(1.0)] * 3
    assert still.overlap[still.is_defined].tolist() == [1.0] * 3
    assert little.correlation.sum() > much.correlation.sum() + 0.5
    assert (much.correlation < 1).all()
    for found in (still, little, much):
        assert not found.correlation[~found.is_defined].any()
        assert not found.overlap[~found.is_defined].any()
        assert (np.abs(found.correlation) <= 1).all()
        assert ((found.overlap >= 0) & (found.overlap <= 1)).all()


def test_the_noise_of_a_document_does_not_depend_on_the_others() -> None:
    model = text_model(1)
    one, two = (
        stability_under_noise(model, notes, method=METHOD, radius=0.5, top=3, rng=np.random.default_rng(7))
        for notes in ([NOTES[0], NOTES[2]], [NOTES[0], Example("p", 0, text="fever " * 40)])
    )
    assert one.correlation[0] == pytest.approx(two.correlation[0], abs=0.05)


def test_two_models_are_compared_document_by_document() -> None:
    model, other = text_model(1), text_model(2)
    same = stability_between(model, model, examples=NOTES, method=METHOD, top=2)
    assert same.correlation[same.is_defined].tolist() == [pytest.approx(1.0)] * 3
    different = stability_between(model, other, examples=NOTES, method=METHOD, top=2)
    assert (different.correlation[different.is_defined] < 0.999).all()
    turned = stability_between(other, model, examples=NOTES[::-1], method=METHOD, top=2)
    np.testing.assert_allclose(turned.correlation[::-1], different.correlation, atol=0.05)


def test_columns_and_models_that_ignore_their_input() -> None:
    model = shaken(build_model(LOGISTIC, Adapter(method="full"), COLUMNS, seed=1))
    found = stability_under_noise(model, ROWS, method=METHOD, radius=0.02, top=2, rng=np.random.default_rng(0))
    assert np.isfinite(found.correlation).all()
    blind = build_model(LOGISTIC, Adapter(method="full"), COLUMNS, seed=1)
    for parameter in blind.parameters():
        parameter.data.zero_()
    nothing = stability_between(blind, model, examples=ROWS, method=METHOD, top=2)
    assert not nothing.is_defined.any()
    assert stability_between(model, model, examples=[], method=METHOD, top=2).correlation.shape == (0,)


def test_the_gap_between_groups_by_hand() -> None:
    figures = np.array([0.1, 0.3, 0.8, 1.0, 0.5, 0.5, np.nan, 9.0])
    groups = ["a", "a", "b", "b", "c", "c", "a", None]
    found = largest_difference(figures, groups, least=2, seed=0)
    assert found is not None
    assert found.value == pytest.approx(0.7)
    assert 0 <= found.low <= found.value <= found.high
    again = largest_difference(figures[::-1], groups[::-1], least=2, seed=0)
    assert again is not None
    assert again.value == pytest.approx(0.7)
    assert largest_difference(figures, groups, least=3, seed=0) is None
    assert largest_difference(figures[:2], groups[:2], least=1, seed=0) is None
    assert largest_difference(np.zeros(0), [], least=0, seed=0) is None
    small = largest_difference(np.array([0.0, 1.0, 1.0, 5.0]), ["a", "b", "b", "c"], least=2, seed=0)
    assert small is None  # c is too small to be looked at, and a as well


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 0.95), (1.0, 0.0)])
def test_the_interval_of_the_gap_covers_no_difference_as_often_as_it_says(shift: float, expected: float) -> None:
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        figures = np.concatenate([rng.normal(shift * (name == 2), 0.5, 30) for name in range(3)])
        found = largest_difference(figures, ["x"] * 30 + ["y"] * 30 + ["z"] * 30, least=11, seed=seed)
        assert found is not None
        covered += found.low == 0
    assert covered / 200 == pytest.approx(expected, abs=0.06)  # 200 draws: four standard errors

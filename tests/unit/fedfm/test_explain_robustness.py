"""Infidelity and sensitivity against captum with the same perturbations, and against closed forms."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max
from torch import Tensor

from fedfm.examples import Example
from fedfm.explain.attribution import Method, integrated_gradients
from fedfm.explain.robustness import RADIUS, infidelity, max_sensitivity, movements, subsets
from fedfm.model.classifier import Classifier, Inputs
from tests.unit.fedfm.judged_cases import columns_model, notes, rows, text_model

SEEDS = range(6)


def case(kind: str) -> tuple[Classifier, Inputs]:
    model, examples = (
        (text_model(), notes(6, seed=3)) if kind == "text" else (columns_model([1, -2, 3]), rows(6, seed=1, columns=3))
    )
    return model, model.inputs(examples)


def by_example(drawn: Tensor) -> Tensor:
    """Return the K perturbations of the first example, then those of the second, as captum repeats examples."""
    return drawn.transpose(0, 1).flatten(0, 1)


@pytest.mark.parametrize("kind", ["text", "columns"])
@pytest.mark.parametrize("scaled", [False, True])
def test_infidelity_equals_captum(kind: str, scaled: bool) -> None:
    model, inputs = case(kind)
    attributed = integrated_gradients(model, inputs, Method(steps=4))
    drawn = subsets(inputs, SEEDS)

    def of_inclusion(kept: Tensor, values: Tensor, baseline: Tensor, present: Tensor) -> Tensor:
        return model.logits_from_inputs(baseline + kept.unsqueeze(-1) * (values - baseline), present)

    expected = captum_infidelity(
        of_inclusion,
        lambda kept: (by_example(drawn), kept - by_example(drawn)),
        torch.ones_like(attributed.credits),
        attributed.credits,
        additional_forward_args=(inputs.values, inputs.baseline, inputs.present),
        target=attributed.target,
        n_perturb_samples=len(drawn),
        normalize=scaled,
    )
    found = infidelity(model, inputs, attributed, drawn, scaled=scaled)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=1e-4)
    if kind == "text":
        assert found.max() > 1e-2
    else:
        assert found.max() < 1e-9  # credits of a linear model foresee every fall


def test_scaling_forgives_the_scale_and_nothing_else() -> None:
    model, inputs = case("columns")
    attributed = integrated_gradients(model, inputs, Method(steps=2))
    drawn = subsets(inputs, SEEDS)
    thrice, turned = (
        replace(attributed, credits=credits_) for credits_ in (3 * attributed.credits, attributed.credits.flip(1))
    )
    assert infidelity(model, inputs, thrice, drawn).max() > 0.1
    assert infidelity(model, inputs, thrice, drawn, scaled=True).max() < 1e-9
    assert infidelity(model, inputs, turned, drawn, scaled=True).max() > 0.1
    nothing = replace(attributed, credits=torch.zeros_like(attributed.credits))
    plain, scaled = (infidelity(model, inputs, nothing, drawn, scaled=on) for on in (False, True))
    assert np.array_equal(plain, scaled)  # there is nothing to scale


@pytest.mark.parametrize("kind", ["text", "columns"])
def test_max_sensitivity_equals_captum(kind: str) -> None:
    model, inputs = case(kind)
    method, by = Method(steps=3), movements(inputs, SEEDS, count=4)

    def explanation(values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        times = len(values[0]) // len(inputs.values)
        names = ("baseline", "present", "removable", "words")
        repeated = {name: getattr(inputs, name).repeat_interleave(times, 0) for name in names}
        many = replace(inputs, values=values[0], **repeated)
        return (integrated_gradients(model, many, method).credits,)

    expected = sensitivity_max(
        explanation, inputs.values, lambda values: (values + by_example(by),), n_perturb_samples=len(by)
    )
    found = max_sensitivity(model, inputs, method=method, by=by)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
    assert found.max() > 1e-3


def test_sensitivity_of_a_linear_model_by_hand() -> None:
    """Credits are weights times values, half of them: the column's own change, over the length of all."""
    model, inputs = columns_model([1.0, 2.0]), columns_model([1.0, 2.0]).inputs([Example("p", 1, columns=(0.6, 0.4))])
    by = torch.zeros(2, 1, 2, 2)
    by[0, 0, 0, 0], by[1, 0, 1, 0] = 0.02, -0.02
    found = max_sensitivity(model, inputs, method=Method(steps=2), by=by)
    assert found == pytest.approx(0.02 / np.hypot(0.3, 0.4), rel=1e-4)


def test_perturbations_come_from_the_documents_own_seed_and_leave_special_tokens() -> None:
    model = text_model()
    examples = notes(6, seed=3)
    inputs, alone = model.inputs(examples), model.inputs(examples[2:3])
    length = alone.present.shape[1]
    taken, moved = subsets(inputs, SEEDS), movements(inputs, SEEDS)
    assert torch.equal(taken[:, 2:3, :length], subsets(alone, [2]))
    assert torch.equal(moved[:, 2:3, :length], movements(alone, [2]))
    for drawn in (taken, moved.abs().sum(-1)):
        assert not (drawn > 0)[:, ~inputs.removable].any()
    assert 0.9 * RADIUS < moved.abs().max() <= RADIUS
    assert set(taken.unique().tolist()) == {0.0, 1.0}
    for row, words in enumerate(inputs.words):
        for word in range(len(inputs.names[row])):
            pieces = taken[:, row, words == word]
            assert (pieces == pieces[:, :1]).all()  # a word goes as one
        if inputs.names[row]:
            assert (taken[:, row].sum(1) > 0).all()


@pytest.mark.parametrize("text", ["", "sepsis"])
def test_little_text_and_a_model_that_ignores_it(text: str) -> None:
    model = text_model()
    with torch.no_grad():
        model.head.weight.zero_()
    inputs = model.inputs([Example("p", 0, text=text)])
    attributed = integrated_gradients(model, inputs, Method(steps=2))
    for scaled in (False, True):
        assert infidelity(model, inputs, attributed, subsets(inputs, [1]), scaled=scaled).tolist() == [0.0]
    assert max_sensitivity(model, inputs, method=Method(steps=2), by=movements(inputs, [1])).tolist() == [0.0]

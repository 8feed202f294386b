"""Gradients as credits against exact answers and captum."""

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients, Saliency
from torch import Tensor

from fedfm.config.study import Adapter, Column, Model, Task
from fedfm.examples import Example
from fedfm.explain.attribution import Attribution, Method, attribute
from fedfm.explain.gradients import expected_gradients, integrated_gradients
from fedfm.model.build import build_model
from fedfm.model.classifier import Classifier, Inputs
from fedfm.model.draws import uniform
from fedfm.model.text import TextClassifier
from tests.unit.fedfm.explained_cases import LONG, NOTES, ROWS, case, shaken, tabular_model, text_model


def explained(model: Classifier, examples: list[Example], *, steps: int) -> Attribution:
    return integrated_gradients(model, model.inputs(examples), Method(steps=steps))


def weights_of(model: Classifier, target: Tensor) -> Tensor:
    """Return float32[B, F, 2], the weights of the target's logit of a model that is linear in four columns."""
    return model.head.weight.detach()[target].view(len(target), 2, 4).transpose(1, 2)


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_credits_of_a_linear_model_are_weight_times_distance(steps: int) -> None:
    model = tabular_model([])
    inputs = model.inputs(ROWS)
    result = integrated_gradients(model, inputs, Method(steps=steps))
    exact = (weights_of(model, result.target) * inputs.values).sum(-1)
    torch.testing.assert_close(result.credits, exact, atol=1e-6, rtol=1e-5)
    assert result.completeness_error.max() < 1e-5
    for name in ("gradient_input", "leave_one_out"):
        other = attribute(model, inputs, Method(name))
        torch.testing.assert_close(other.credits, exact, atol=2e-6, rtol=1e-5)
        assert other.completeness_error is None


@pytest.mark.parametrize("baseline", ["pad", "mask", "mean"])
@pytest.mark.parametrize("kind", ["text", "columns"])
def test_integrated_gradients_equal_captum(kind: str, baseline: str) -> None:
    model, examples = case(kind)
    inputs = model.inputs(examples, baseline=baseline)
    result = attribute(model, inputs, Method(steps=8, baseline=baseline))
    reference = IntegratedGradients(model.logits_from_inputs).attribute(
        inputs.values,
        baselines=inputs.baseline,
        target=result.target,
        additional_forward_args=(inputs.present,),
        n_steps=8,
        method="riemann_middle",
    )
    torch.testing.assert_close(result.credits, reference.sum(-1).float(), atol=1e-4, rtol=1e-4)
    assert result.credits.abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["text", "columns"])
def test_gradients_at_the_values_equal_captum(kind: str) -> None:
    model, examples = case(kind)
    inputs = model.inputs(examples)
    product, norm = (attribute(model, inputs, Method(name)) for name in ("gradient_input", "gradient_norm"))
    values = inputs.values.clone().requires_grad_(True)
    options = {"target": product.target, "additional_forward_args": (inputs.present,)}
    reference = InputXGradient(model.logits_from_inputs).attribute(values, **options)
    gradient = Saliency(model.logits_from_inputs).attribute(values, abs=False, **options)
    there = inputs.removable
    torch.testing.assert_close(product.credits, reference.sum(-1).detach() * there, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(norm.credits, gradient.norm(dim=-1) * there, atol=1e-4, rtol=1e-4)
    assert norm.credits.min() >= 0
    assert product.credits.abs().max() > 1e-2


def test_completeness_holds_at_ten_steps_and_converges() -> None:
    model = text_model()
    errors = {steps: explained(model, [*NOTES, LONG], steps=steps).completeness_error for steps in (2, 10, 40)}
    assert errors[10].max() < 0.15
    assert errors[40].max() < 0.01
    assert errors[40].mean() < errors[10].mean() < errors[2].mean()


def test_completeness_error_is_what_its_definition_says() -> None:
    model = text_model()
    inputs = model.inputs(NOTES[:1])
    result = integrated_gradients(model, inputs, Method(steps=3))
    with torch.no_grad():
        both = [
            model.logits_from_inputs(x, inputs.present)[0, result.target[0]] for x in (inputs.values, inputs.baseline)
        ]
    difference = (both[0] - both[1]).item()
    expected = abs(result.credits.sum().item() - difference) / abs(difference)
    assert result.completeness_error.item() == pytest.approx(expected, rel=1e-3)
    assert expected > 1e-4


def test_another_baseline_gives_other_credits() -> None:
    model = text_model()
    found = [
        integrated_gradients(model, model.inputs(NOTES, baseline=baseline), Method()).credits
        for baseline in ("pad", "mask", "mean")
    ]
    assert all((found[i] - found[j]).abs().max() > 1e-2 for i, j in ((0, 1), (0, 2), (1, 2)))


def test_expected_gradients_of_a_linear_model_are_weight_times_distance_from_the_mean_reference() -> None:
    model = tabular_model([])
    inputs = model.inputs(ROWS)
    result = expected_gradients(model, inputs, Method("expected_gradients", steps=7))
    weights = weights_of(model, result.target)
    exact = (weights * (inputs.values - model.drawn(7, 4).mean(0))).sum(-1)
    torch.testing.assert_close(result.credits, exact, atol=2e-6, rtol=1e-5)
    assert result.completeness_error is None
    many = expected_gradients(model, inputs, Method("expected_gradients", steps=4000))
    limit = (weights * inputs.values).sum(-1)  # the mean of the reference range is 0
    torch.testing.assert_close(many.credits, limit, atol=0.01, rtol=0.0)
    assert (result.credits - limit).abs().max() > 0.03


def by_hand(model: Classifier, inputs: Inputs, references: Tensor, at: list[float]) -> Tensor:
    """Return expected gradients of a batch of one document, path by path."""
    target = model.logits_from_inputs(inputs.values, inputs.present).argmax()
    total = torch.zeros(inputs.values.shape[1])
    for reference, where in zip(references, at, strict=True):
        start = torch.where(inputs.removable[0, :, None], reference, inputs.values[0])
        point = (start + where * (inputs.values[0] - start)).requires_grad_(True)
        model.logits_from_inputs(point[None], inputs.present)[0, target].backward(inputs=[point])
        total += (point.grad * (inputs.values[0] - start)).sum(-1)
    return total / len(at)


def points(steps: int) -> list[float]:
    """Return where on each path the point lies: each in a part of its own."""
    return [(k + float(u)) / steps for k, u in enumerate(uniform(1, "expected_gradients", (steps,)))]


@pytest.mark.parametrize("kind", ["text", "columns"])
def test_expected_gradients_equal_a_plain_recomputation(kind: str) -> None:
    model, examples = case(kind)
    steps = 5
    result = expected_gradients(model, model.inputs(examples), Method(steps=steps))
    for row, example in enumerate(examples):
        inputs = model.inputs([example])
        units = inputs.values.shape[1]
        plain = by_hand(model, inputs, model.drawn(steps, units), points(steps))
        torch.testing.assert_close(result.credits[row, :units], plain, atol=1e-5, rtol=1e-4)


def test_references_that_are_given_take_turns_and_fill_the_document() -> None:
    model = text_model()
    given, inputs = model.inputs([NOTES[3], NOTES[1], NOTES[0]]), model.inputs(NOTES[2:3])
    result = expected_gradients(model, inputs, Method(steps=3, references=given))
    units = inputs.values.shape[1]
    rows = [given.values[row][given.removable[row]] for row in (1, 2, 1)]  # the empty one says nothing
    filled = torch.stack([torch.cat([row] * units)[:units] for row in rows])
    torch.testing.assert_close(result.credits[0], by_hand(model, inputs, filled, points(3)), atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="without a single unit"):
        expected_gradients(model, inputs, Method(references=model.inputs([NOTES[3]])))


def test_expected_gradients_add_up_to_the_mean_difference_when_there_are_many() -> None:
    model, inputs = tabular_model([6]), tabular_model([6]).inputs(ROWS)
    result = expected_gradients(model, inputs, Method(steps=4000))
    with torch.no_grad():
        here = model.logits_from_inputs(inputs.values, inputs.present)
        there = model.logits_from_inputs(model.drawn(4000, 4), torch.ones(4000, 4, dtype=torch.bool)).mean(0)
    difference = (here - there).gather(1, result.target[:, None]).squeeze(1)
    torch.testing.assert_close(result.credits.sum(1), difference, atol=0.05, rtol=0.02)


def test_drawn_word_pieces_are_plain_words_of_the_vocabulary_and_the_first_are_always_the_same() -> None:
    model = text_model()
    assert isinstance(model, TextClassifier)
    drawn, matrix = model.drawn(30, 64), model.backbone.get_input_embeddings().weight.detach()
    ids = torch.cdist(drawn.flatten(0, 1), matrix).argmin(1)
    assert torch.equal(matrix[ids], drawn.flatten(0, 1))
    special = set(model.tokenizer.all_special_ids)
    assert not special & set(ids.tolist())
    assert len(set(ids.tolist())) > 0.9 * (len(matrix) - len(special))
    assert torch.equal(model.drawn(4, 9), drawn[:4, :9])
    other = build_model(Model(source="random", max_tokens=64), Adapter(method="head"), model.recipe.task, seed=2)
    assert not torch.equal(other.drawn(4, 9), drawn[:4, :9])


@pytest.mark.parametrize("standardize", ["reference", "none", "global"])
def test_drawn_columns_fill_their_reference_range(standardize: str) -> None:
    spec = Model(backbone="tabular", source="none", hidden=[])
    task = Task(inputs="columns", labels=["no", "yes"], columns=[Column(name, 5, 10) for name in "abcd"])
    model = shaken(build_model(spec, Adapter(method="full"), task, seed=1, standardize=standardize))
    if standardize == "global":
        model.standard.set({"mean": np.full(4, 0.5, np.float32), "scale": np.full(4, 2.0, np.float32)})
    drawn = model.drawn(500, 4)
    low, high = (model.inputs([Example("", 0, columns=(end,) * 4)]).values[0, :, 0] for end in (5.0, 10.0))
    assert (drawn[..., 0] >= low).all()
    assert (drawn[..., 0] <= high).all()
    assert (drawn[..., 1] == 0).all()
    if standardize != "none":  # there the range lies beyond where values are cut
        torch.testing.assert_close(drawn[..., 0].mean(0), (low + high) / 2, atol=0.1, rtol=0)

"""Integrated gradients against exact answers, captum, and the private step they must not touch."""

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from opacus.grad_sample import GradSampleHooks, GradSampleModule
from torch import nn

from client_app.layer_gradients import Grouping, recording
from client_app.per_unit_gradients import Batch, set_clipped_gradients
from fedfm.config.study import Adapter, Column, Model, Task
from fedfm.errors import ModelError
from fedfm.examples import Example
from fedfm.explain.attribution import ATTRIBUTIONS, Attribution, Method, integrated_gradients
from fedfm.explain.audit import Watched, audit
from fedfm.model.build import build_model
from fedfm.model.classifier import Classifier
from fedfm.parameters import load_trainable, trainable

TEXT = Task(inputs="text", labels=["well", "ill", "dead"])
COLUMNS = Task(inputs="columns", labels=["no", "yes"], columns=[Column(name, 0, 10) for name in "abcd"])
NOTES = [
    Example("p1", 0, text="Patient was stable overnight, discharged home."),
    Example("p2", 1, text="sepsis"),
    Example("p3", 2, text="fever and cough after surgery; oxygen, fluid, monitor until morning"),
    Example("p4", 2, text=""),
]
ROWS = [Example("p1", 0, columns=(1.0, 9.0, float("nan"), 5.0)), Example("p2", 1, columns=(10.0, 2.0, 3.0, 4.0))]


def shaken(model: Classifier, *, by: float = 0.3) -> Classifier:
    rng = np.random.default_rng(0)
    moved = {
        name: array + rng.normal(0, by, array.shape).astype(np.float32) for name, array in trainable(model).items()
    }
    load_trainable(model, moved)
    return model


def text_model() -> Classifier:
    return shaken(build_model(Model(source="random"), Adapter(method="lora", rank=4), TEXT, seed=1))


def tabular_model(hidden: list[int]) -> Classifier:
    model = Model(backbone="tabular", source="none", hidden=hidden)
    return shaken(build_model(model, Adapter(method="full"), COLUMNS, seed=1))


def explained(model: Classifier, examples: list[Example], *, steps: int) -> Attribution:
    return integrated_gradients(model, model.inputs(examples), Method(steps=steps))


@pytest.mark.parametrize("steps", [2, 10])
def test_credits_of_a_linear_model_are_weight_times_distance(steps: int) -> None:
    model = tabular_model([])
    inputs = model.inputs(ROWS)
    result = integrated_gradients(model, inputs, Method(steps=steps))
    weights = model.head.weight.detach()[result.target].view(2, 2, 4).transpose(1, 2)
    torch.testing.assert_close(result.credits, (weights * inputs.values).sum(-1), atol=1e-6, rtol=1e-5)
    assert result.completeness_error.max() < 1e-5


@pytest.mark.parametrize("attribute", ATTRIBUTIONS.values(), ids=ATTRIBUTIONS.keys())
def test_the_column_that_decides_gets_the_credit(attribute) -> None:  # noqa: ANN001 - any of the registry
    model = build_model(Model(backbone="tabular", source="none"), Adapter(method="full"), COLUMNS, seed=1)
    weight = np.zeros((2, 8), np.float32)
    weight[1, 2], weight[0, 2] = 5, -5  # column c
    load_trainable(model, {"head.weight": weight, "head.bias": np.zeros(2, np.float32)})
    examples = [Example("p", 1, columns=(9.0, 9.0, 8.0, 1.0)), Example("p", 0, columns=(9.0, 9.0, 1.0, 1.0))]
    result = attribute(model, model.inputs(examples), Method(steps=10))
    assert result.target.tolist() == [1, 0]
    assert result.credits.argmax(1).tolist() == [2, 2]
    assert result.credits[:, [0, 1, 3]].abs().max() == 0


@pytest.mark.parametrize("kind", ["text", "mlp"])
def test_equal_to_captum(kind: str) -> None:
    model, examples = (text_model(), NOTES) if kind == "text" else (tabular_model([6]), ROWS)
    inputs = model.inputs(examples)
    result = integrated_gradients(model, inputs, Method(steps=8))
    reference = IntegratedGradients(model.logits_from_inputs).attribute(
        inputs.values,
        baselines=inputs.baseline,
        target=result.target,
        additional_forward_args=(inputs.present,),
        n_steps=8,
        method="gausslegendre",
    )
    torch.testing.assert_close(result.credits, reference.sum(-1).float(), atol=1e-4, rtol=1e-4)
    assert result.credits.abs().max() > 1e-2


def test_completeness_holds_at_ten_steps_and_converges() -> None:
    model = text_model()
    errors = {steps: explained(model, NOTES, steps=steps).completeness_error for steps in (2, 10, 40)}
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


def test_nothing_to_credit_is_no_error() -> None:
    result = explained(text_model(), [Example("p", 0, text="")], steps=4)
    assert result.credits.tolist() == [[0, 0]]
    assert result.completeness_error.item() == 0


def test_credits_do_not_depend_on_the_batch_and_special_tokens_get_none() -> None:
    model = text_model()
    together = explained(model, NOTES, steps=10)
    for i, note in enumerate(NOTES):
        alone = explained(model, [note], steps=10).credits[0]
        torch.testing.assert_close(together.credits[i, : len(alone)], alone, atol=2e-6, rtol=1e-4)
        assert together.credits[i, len(alone) :].abs().sum() == 0
        assert alone[[0, -1]].tolist() == [0, 0]


def test_a_batch_larger_than_one_pass_is_the_same() -> None:
    model = text_model()
    many = explained(model, [NOTES[0]] * 20, steps=7).credits  # 140 points, more than are run at once
    torch.testing.assert_close(many, many[:1].expand_as(many), atol=2e-6, rtol=1e-4)


def hooks_on_model(model: Classifier) -> None:
    GradSampleHooks(model, loss_reduction="sum")


def hooks_by_wrapper(model: Classifier) -> None:
    GradSampleModule(model, loss_reduction="sum")


def hooks_from_outside(model: Classifier) -> None:
    GradSampleHooks(nn.Sequential(model), loss_reduction="sum")


def hooks_of_the_site(model: Classifier) -> object:
    block = recording(model, Grouping(torch.zeros(1, dtype=torch.int64), 1))
    block.__enter__()
    return block  # it ends when nobody holds it


@pytest.mark.parametrize("attach", [hooks_on_model, hooks_by_wrapper, hooks_from_outside, hooks_of_the_site])
@pytest.mark.parametrize("kind", ["text", "tabular"])
def test_a_model_in_a_private_step_is_refused(attach, kind: str) -> None:  # noqa: ANN001 - four ways
    model, examples = (text_model(), NOTES) if kind == "text" else (tabular_model([3]), ROWS)
    held = attach(model)  # noqa: F841
    with pytest.raises(ModelError, match="MODEL-E147"):
        explained(model, examples, steps=2)
    with pytest.raises(ModelError, match="MODEL-E147"):
        audit(model, examples, method=Method(steps=2), watched=Watched(), rng=np.random.default_rng(0))


def test_explaining_before_leaves_the_private_step_bit_for_bit() -> None:
    def gradients(*, explain: bool) -> list[torch.Tensor]:
        model = text_model()
        if explain:
            explained(model, NOTES, steps=5)
        labels, grouping = torch.tensor([note.label for note in NOTES]), Grouping(torch.arange(len(NOTES)), len(NOTES))
        batch = Batch(model.encode(NOTES), labels, torch.ones(len(NOTES)), grouping)
        set_clipped_gradients(model, batch, max_grad_norm=0.1, clipping="flat")
        return [p.grad.clone() for p in model.parameters() if p.requires_grad]  # type: ignore[union-attr]

    for plain, after in zip(gradients(explain=False), gradients(explain=True), strict=True):
        assert torch.equal(plain, after)


def test_no_parameter_gets_a_gradient_also_under_no_grad() -> None:
    model = text_model()
    first = explained(model, NOTES, steps=5)
    assert all(parameter.grad is None for parameter in model.parameters())
    with torch.no_grad():
        second = explained(model, NOTES, steps=5)
    assert torch.equal(first.credits, second.credits)

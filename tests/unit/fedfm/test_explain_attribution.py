"""What holds for every method that credits units: it leaves the model alone, and each document to itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client_app.layer_gradients import Grouping
from client_app.per_unit_gradients import Batch, set_clipped_gradients
from fedfm.config.study import Adapter, Model
from fedfm.examples import Example
from fedfm.explain.attribution import ATTRIBUTIONS, Attribution, Method, attribute
from fedfm.model.build import build_model
from fedfm.model.classifier import Classifier
from fedfm.parameters import load_trainable
from tests.unit.fedfm.explained_cases import CASES, COLUMNS, LONG, NOTES, case, tabular_model, text_model

EVERY = pytest.mark.parametrize(("kind", "name"), CASES)
OF_COLUMNS = [name for kind, name in CASES if kind == "columns"]


def explained(model: Classifier, examples: list[Example], name: str, *, steps: int = 4) -> Attribution:
    return attribute(model, model.inputs(examples), Method(name, steps=steps))


@pytest.mark.parametrize("name", OF_COLUMNS)
def test_the_column_that_decides_gets_the_credit(name: str) -> None:
    model = build_model(Model(backbone="tabular", source="none"), Adapter(method="full"), COLUMNS, seed=1)
    weight = np.zeros((2, 8), np.float32)
    weight[1, 2], weight[0, 2] = 5, -5  # column c
    load_trainable(model, {"head.weight": weight, "head.bias": np.zeros(2, np.float32)})
    examples = [Example("p", 1, columns=(9.0, 9.0, 8.0, 1.0)), Example("p", 0, columns=(9.0, 9.0, 1.0, 1.0))]
    result = explained(model, examples, name, steps=10)
    assert result.target.tolist() == [1, 0]
    assert result.credits.argmax(1).tolist() == [2, 2]
    assert result.credits[:, [0, 1, 3]].abs().max() == 0


@EVERY
def test_credits_do_not_depend_on_the_batch_and_what_must_stay_gets_none(kind: str, name: str) -> None:
    """Among the documents: an empty one, one longer than the window, and padding of every length."""
    model, examples = case(kind)
    inputs = model.inputs(examples)
    together = attribute(model, inputs, Method(name, steps=4))
    assert torch.isfinite(together.credits).all()
    assert together.credits.masked_select(~inputs.removable).abs().sum() == 0
    assert together.credits.dtype == torch.float32
    for i, example in enumerate(examples):
        alone = explained(model, [example], name)
        units = alone.credits.shape[1]
        torch.testing.assert_close(together.credits[i, :units], alone.credits[0], atol=2e-6, rtol=1e-4)
        assert together.target[i] == alone.target[0]
        assert (alone.credits.abs().max() > 1e-3) == bool(example.text != "")


@EVERY
def test_more_rows_than_one_pass_takes_are_the_same(kind: str, name: str) -> None:
    model, examples = case(kind)
    many = explained(model, examples[:1] * 40, name).credits
    torch.testing.assert_close(many, many[:1].expand_as(many), atol=2e-6, rtol=1e-4)


@EVERY
def test_credits_are_the_same_every_time_and_follow_the_order(kind: str, name: str) -> None:
    model, examples = case(kind)
    first, second = explained(model, examples, name), explained(model, examples, name)
    assert torch.equal(first.credits, second.credits)
    turned = explained(model, examples[::-1], name)
    torch.testing.assert_close(turned.credits.flip(0), first.credits, atol=2e-6, rtol=1e-4)


@EVERY
@pytest.mark.parametrize("trained", [True, False])
def test_the_model_is_left_as_it_was(kind: str, name: str, *, trained: bool) -> None:
    model, examples = case(kind)
    model.train(trained)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    flags = {key: parameter.requires_grad for key, parameter in model.named_parameters()}
    random = torch.random.get_rng_state()
    free = explained(model, examples, name)
    with torch.no_grad():
        closed = explained(model, examples, name)
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    assert torch.equal(free.credits, closed.credits)
    assert not free.credits.requires_grad
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert flags == {key: parameter.requires_grad for key, parameter in model.named_parameters()}
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(module.training == trained for module in model.modules())
    assert torch.equal(random, torch.random.get_rng_state())


@EVERY
def test_a_gradient_that_was_there_stays(kind: str, name: str) -> None:
    model, examples = case(kind)
    model(model.encode(examples)).sum().backward()
    before = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    explained(model, examples, name)
    after = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    assert before.keys() == after.keys() != set()
    assert all(torch.equal(before[key], after[key]) for key in before)


@EVERY
def test_units_that_ask_for_a_gradient_get_none_and_their_credits_hold_no_graph(kind: str, name: str) -> None:
    model, examples = case(kind)
    inputs = model.inputs(examples)
    asking = replace(inputs, values=inputs.values.clone().requires_grad_(True))
    result = attribute(model, asking, Method(name, steps=3))
    assert torch.equal(result.credits, attribute(model, inputs, Method(name, steps=3)).credits)
    assert not result.credits.requires_grad
    assert result.completeness_error is None or not result.completeness_error.requires_grad
    assert asking.values.requires_grad
    assert asking.values.grad is None


@EVERY
def test_a_model_that_ignores_its_input_credits_nothing(kind: str, name: str) -> None:
    model, examples = case(kind)
    with torch.no_grad():
        model.head.weight.zero_()
    result = explained(model, examples, name)
    assert result.target.unique().numel() == 1
    if name == "attention_rollout":  # it does not ask what is decided
        assert torch.isfinite(result.credits).all()
    else:
        assert result.credits.abs().max() == 0
    assert result.completeness_error is None or result.completeness_error.max() == 0


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_documents_without_a_word_and_of_one_word_many_times(name: str) -> None:
    model = text_model()
    nothing = explained(model, [Example("p", 0, text=""), Example("q", 0, text="  \n")], name)
    assert nothing.credits.tolist() == [[0, 0], [0, 0]]
    same = explained(model, [Example("p", 0, text="pain " * 200), LONG], name)
    assert same.credits.shape == (2, 64)
    assert torch.isfinite(same.credits).all()


@settings(max_examples=8, deadline=None)
@given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=3))
def test_any_text_whatever_is_credited_in_finite_numbers(texts: list[str]) -> None:
    model = text_model()
    inputs = model.inputs([Example(str(i), 0, text=text) for i, text in enumerate(texts)])
    for name in ATTRIBUTIONS:
        result = attribute(model, inputs, Method(name, steps=2))
        assert result.credits.shape == inputs.present.shape
        assert torch.isfinite(result.credits).all()
        assert result.credits.masked_select(~inputs.removable).abs().sum() == 0


@pytest.mark.parametrize("name", OF_COLUMNS)
def test_no_example_at_all(name: str) -> None:
    assert explained(tabular_model([3]), [], name).credits.shape == (0, 4)


@EVERY
def test_hooks_of_a_parameter_see_nothing(kind: str, name: str) -> None:
    """They are no layer's, and need no guard: gradients go to the units only."""
    model, examples = case(kind)
    seen: list[torch.Tensor] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_hook(seen.append)
            parameter.register_post_accumulate_grad_hook(seen.append)
    explained(model, examples, name)
    assert seen == []


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_explaining_before_leaves_the_private_step_bit_for_bit(name: str) -> None:
    def gradients(*, explain: bool) -> list[torch.Tensor]:
        model = text_model()
        if explain:
            explained(model, NOTES, name)
        labels, grouping = torch.tensor([note.label for note in NOTES]), Grouping(torch.arange(len(NOTES)), len(NOTES))
        batch = Batch(model.encode(NOTES), labels, torch.ones(len(NOTES)), grouping)
        set_clipped_gradients(model, batch, max_grad_norm=0.1, clipping="flat")
        return [p.grad.clone() for p in model.parameters() if p.requires_grad]  # type: ignore[union-attr]

    for plain, after in zip(gradients(explain=False), gradients(explain=True), strict=True):
        assert torch.equal(plain, after)

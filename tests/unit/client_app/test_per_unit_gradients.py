"""Clipped gradients by unit: equal to a loop over units and to Opacus's hooks, and bounded."""

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.grad_sample import GradSampleHooks
from torch import Tensor, nn

from client_app.layer_gradients import Grouping, Rows, TokenProducts, ghost_squares, recording, untrackable
from client_app.per_unit_gradients import CLIPPINGS, Batch, clip_factors, loss, set_clipped_gradients
from fedfm.config.study import Adapter
from fedfm.errors import ModelError
from fedfm.model.build import build_model
from fedfm.model.classifier import Classifier
from tests.unit.fedfm.model_cases import FIT, TEXT, TINY, shaken

UNITS = [0, 1, 0, 2, 2]  # the units' examples are not neighbours


def batch_of(model: Classifier, name: str) -> Batch:
    """Every example of a case, in two or three units, with uneven factors."""
    examples = FIT[name][3]
    units = torch.tensor(UNITS[: len(examples)])
    return Batch(
        states=model.encode(examples),
        labels=torch.tensor([example.label for example in examples]),
        factors=torch.linspace(0.3, 2.0, len(examples)),
        grouping=Grouping(units, int(units.max()) + 1),
    )


def part_of(batch: Batch, unit: int) -> Batch:
    chosen = [i for i, owner in enumerate(batch.grouping.unit_of.tolist()) if owner == unit]
    alone = Grouping(torch.zeros(len(chosen), dtype=torch.int64), 1)
    return Batch([batch.states[i] for i in chosen], batch.labels[chosen], batch.factors[chosen], alone)


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def found_gradient(model: Classifier, batch: Batch, *, clip: float, clipping: str = "flat") -> list[Tensor]:
    for parameter in model.parameters():
        parameter.grad = None
    set_clipped_gradients(model, batch, max_grad_norm=clip, clipping=clipping)
    return [parameter.grad.clone() for parameter in trained(model)]  # type: ignore[union-attr]


def looped_gradient(model: Classifier, batch: Batch, *, clip: float) -> list[Tensor]:
    """One unit at a time with plain autograd: the definition."""
    total = [torch.zeros_like(parameter) for parameter in trained(model)]
    for unit in range(batch.grouping.units):
        gradients = torch.autograd.grad(loss(model, part_of(batch, unit)), trained(model))
        factor = min(1.0, clip / (flat_norm(gradients) + 1e-6))
        total = [already + factor * gradient for already, gradient in zip(total, gradients, strict=True)]
    return total


def flat_norm(gradients: Sequence[Tensor]) -> float:
    return float(torch.cat([gradient.double().flatten() for gradient in gradients]).norm())


def difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    return flat_norm([f - e for f, e in zip(found, expected, strict=True)]) / flat_norm(expected)


@pytest.mark.parametrize("clip", [0.05, 1e6])
@pytest.mark.parametrize("name", FIT)
def test_one_backward_pass_equals_a_loop_over_units(name: str, clip: float) -> None:
    model = shaken(build_model(*FIT[name][:3], seed=3))
    batch = batch_of(model, name)
    assert difference(found_gradient(model, batch, clip=clip), looped_gradient(model, batch, clip=clip)) < 1e-5


@pytest.mark.parametrize("name", ["bert-lora-all", "bert-ffa_lora", "tabular-full"])
def test_one_backward_pass_equals_opacus(name: str) -> None:
    model = shaken(build_model(*FIT[name][:3], seed=3))
    batch = batch_of(model, name)
    found = found_gradient(model, batch, clip=0.05)
    hooks = GradSampleHooks(model, loss_reduction="sum")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
        loss(model, batch).backward()
    per_unit = [batch.grouping.merged(parameter.grad_sample) for parameter in trained(model)]  # type: ignore[attr-defined]
    hooks.cleanup()
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in per_unit]).norm(dim=0)
    factors = (0.05 / (norms + 1e-6)).clamp(max=1.0)
    assert difference(found, [torch.tensordot(factors, gradient, dims=1) for gradient in per_unit]) < 1e-5


@given(seed=st.integers(0, 2**32 - 1), notes=st.lists(st.integers(1, 4), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_ghost_norms_equal_those_of_the_gradients(seed: int, notes: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens, size_in, size_out = (int(torch.randint(1, 12, (1,), generator=generator)) for _ in range(3))
    unit_of = torch.repeat_interleave(torch.arange(len(notes)), torch.tensor(notes))
    unit_of = unit_of[torch.randperm(len(unit_of), generator=generator)]
    inputs, gradients = (torch.randn(len(unit_of), tokens, size, generator=generator) for size in (size_in, size_out))
    rows = Rows(nn.Parameter(torch.zeros(size_out, size_in)), inputs, gradients)
    found = ghost_squares(rows, Grouping(unit_of, len(notes)), TokenProducts())
    per_unit = Grouping(unit_of, len(notes)).merged(gradients.mT @ inputs)
    torch.testing.assert_close(found, per_unit.flatten(1).square().sum(1), rtol=1e-4, atol=1e-5)


def test_a_ghost_norm_never_hides_a_gradient_behind_its_rounding() -> None:
    # tokens that are nearly alike with gradients that nearly cancel: the products lose all digits
    generator = torch.Generator().manual_seed(0)
    inputs = 100 + 1e-3 * torch.randn(50, 40, 384, generator=generator)
    gradients = torch.randn(50, 40, 384, generator=generator)
    gradients -= gradients.mean(1, keepdim=True)
    rows = Rows(nn.Parameter(torch.zeros(384, 384)), inputs, gradients)
    squares = ghost_squares(rows, Grouping(torch.arange(50), 50), TokenProducts())
    true = (gradients.double().mT @ inputs.double()).flatten(1).square().sum(1)
    assert (squares >= true * (1 - 1e-5)).all()


@pytest.mark.parametrize("clipping", CLIPPINGS)
@given(
    norms=st.lists(st.lists(st.floats(0, 1e4, width=32), min_size=3, max_size=3), min_size=1, max_size=6),
    clip=st.floats(0.01, 10),
)
@settings(max_examples=50, deadline=None)
def test_a_clipped_unit_keeps_the_clipping_norm(clipping: str, norms: list[list[float]], clip: float) -> None:
    squares = torch.tensor(norms).square()
    kept = (clip_factors(squares, clip, clipping).square() * squares).sum(0).sqrt()
    assert (kept <= clip * (1 + 1e-5)).all()


def test_per_layer_clipping_bounds_each_layer_by_its_share() -> None:
    factors = clip_factors(torch.tensor([[100.0], [0.01], [4.0], [1.0]]), 2.0, "per_layer")
    assert factors.flatten().tolist() == pytest.approx([0.1, 1.0, 0.5, 1.0], rel=1e-5)


@pytest.mark.parametrize("clipping", CLIPPINGS)
@pytest.mark.parametrize("name", ["bert-full", "bert-lora-all", "bert-dora"])
def test_one_unit_moves_the_sum_of_a_real_model_by_at_most_the_clipping_norm(name: str, clipping: str) -> None:
    model = shaken(build_model(*FIT[name][:3], seed=3))
    batch = batch_of(model, name)
    alone = part_of(batch, 2)
    louder = Batch(alone.states, alone.labels, alone.factors * 1e6, alone.grouping)
    moved = flat_norm(found_gradient(model, louder, clip=0.05, clipping=clipping))
    assert 0.5 * 0.05 < moved <= 0.05 * (1 + 1e-5)


@pytest.mark.parametrize("name", ["bert-full", "bert-lora-all", "bert-dora", "bert-head"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_unit_that_overflows_adds_nothing_and_moves_no_other(name: str, value: float) -> None:
    model = shaken(build_model(*FIT[name][:3], seed=3))
    batch = batch_of(model, name)
    states = [
        torch.full_like(state, value) if owner == 1 else state for state, owner in zip(batch.states, UNITS, strict=True)
    ]
    poisoned = found_gradient(model, Batch(states, batch.labels, batch.factors, batch.grouping), clip=0.05)
    without = Batch(
        [batch.states[i] for i in (0, 2, 3, 4)],
        batch.labels[[0, 2, 3, 4]],
        batch.factors[[0, 2, 3, 4]],
        Grouping(torch.tensor([0, 0, 1, 1]), 2),
    )
    others = found_gradient(model, without, clip=0.05)
    assert all(gradient.isfinite().all() for gradient in poisoned)
    # an input of 1e30 that a normalisation tames is an ordinary unit
    assert flat_norm([a - b for a, b in zip(poisoned, others, strict=True)]) <= 0.05 * (1 + 1e-5)
    if not np.isfinite(value):
        assert difference(poisoned, others) < 1e-5


def test_no_ordinary_gradient_is_computed_and_the_model_is_as_before() -> None:
    model = build_model(*FIT["bert-lora-all"][:3], seed=3)
    batch, before = batch_of(model, "bert-lora-all"), trained(model)
    with recording(model, batch.grouping):
        assert not trained(model)
        loss(model, batch).backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(one is other for one, other in zip(trained(model), before, strict=True))
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("fault", ["unused", "twice", "transposed"])
def test_a_layer_without_one_gradient_for_each_example_is_refused(fault: str) -> None:
    class Faulty(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.other = nn.Linear(4, 2), nn.Linear(4, 4)

        def forward(self, states: Sequence[Tensor]) -> Tensor:
            x = torch.stack(list(states))
            if fault == "twice":
                x = self.other(self.other(x))
            elif fault == "transposed":
                x = self.other(x.unsqueeze(0)).squeeze(0)
            logits: Tensor = self.head(x)
            return logits

    batch = Batch(list(torch.randn(3, 4)), torch.tensor([0, 1, 0]), torch.ones(3), Grouping(torch.arange(3), 3))
    model = Faulty()
    with pytest.raises(ModelError, match=r"MODEL-E150.*other"):
        set_clipped_gradients(model, batch, max_grad_norm=1.0, clipping="flat")  # type: ignore[arg-type]
    assert trained(model) == list(model.parameters())


def test_which_adapters_need_a_gradient_for_each_example() -> None:
    outside = {
        name
        for name, (model, adapter, task, _) in FIT.items()
        if untrackable(build_model(model, adapter, task, seed=1))
    }
    assert outside == {"bert-dora", "bert-ia3"}
    assert not untrackable(build_model(TINY, Adapter(method="head"), TEXT, seed=1))

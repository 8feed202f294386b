"""The sum over units, patients or records, of each one's clipped gradient, from one backward pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from client_app.layer_gradients import Grouping, LayerGradients, recording, untrackable
from fedfm.model.classifier import Classifier


@dataclass(frozen=True)
class Batch:
    """Whole units that go through the model together.

    Attributes:
        states: B tensors, what ``Classifier.encode`` returned.
        labels: int64[B].
        factors: float32[B] factor of each example's loss.
        grouping: The unit of each example.
        precision: ``float32`` or ``bfloat16``, of the passes through the model.
    """

    states: Sequence[Tensor]
    labels: Tensor
    factors: Tensor
    grouping: Grouping
    precision: str = "float32"


def set_clipped_gradients(model: Classifier, batch: Batch, *, max_grad_norm: float, clipping: str) -> None:
    """Set each trained ``p.grad`` to the sum over units of the unit's clipped gradient.

    A unit's gradient is that of the sum of its examples' losses, each times its factor.

    Args:
        model: In training mode; its examples do not see each other.
        batch: Whole units.
        max_grad_norm: Clipping norm C.
        clipping: ``flat``: the gradient over all parameters at C; ``per_layer``: that of each of the G trained
            layers at C / sqrt(G), so that together they keep C (McMahan et al. 2018, arXiv:1710.06963).

    Guarantees:
        Each unit moves the whole sum by at most C in L2 norm (up to float32 rounding), however many examples it has.
        A unit whose gradient is not finite adds nothing, and moves no other's part.
    """
    layers = _by_examples(model, batch) if untrackable(model) else _by_one_pass(model, batch)
    all_factors = clip_factors(torch.stack([layer.squares for layer in layers]), max_grad_norm, clipping)
    for factors in all_factors.flip(0):
        for parameter, total in layers.pop().weighted_sums(factors):  # each layer's memory is free before the next
            parameter.grad = total.view_as(parameter)


def set_no_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Set each ``p.grad`` to zero: the sum over no units, to which a step still adds noise."""
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)


def flat(squares: Tensor, max_grad_norm: float) -> Tensor:
    """Return float32[G, U], one factor for all layers of a unit."""
    return _factors(squares.sum(0), max_grad_norm).expand_as(squares)


def per_layer(squares: Tensor, max_grad_norm: float) -> Tensor:
    """Return float32[G, U], a factor for each layer; each keeps a G-th of the squared norm."""
    factors = _factors(squares, max_grad_norm / len(squares) ** 0.5)
    return factors * squares.sum(0).isfinite()


CLIPPINGS: dict[str, Callable[[Tensor, float], Tensor]] = {"flat": flat, "per_layer": per_layer}


def clip_factors(squares: Tensor, max_grad_norm: float, clipping: str) -> Tensor:
    """Return float32[G, U] factors in [0, 1] from float32[G, U] squared norms; 0 where a unit overflowed."""
    return CLIPPINGS[clipping](squares, max_grad_norm)


def loss(model: Classifier, batch: Batch) -> Tensor:
    """Return the sum of the examples' losses, each times its factor; no statistic of the batch enters one."""
    with _at_precision(model, batch):
        logits = model(batch.states)
    return _loss(logits, batch.labels, batch.factors)


def _by_one_pass(model: Classifier, batch: Batch) -> list[LayerGradients]:
    with recording(model, batch.grouping) as layers:
        torch.autograd.backward(loss(model, batch))
    return layers


def _by_examples(model: Classifier, batch: Batch) -> list[LayerGradients]:
    """By a gradient for each example over the whole model, for parameters that sit outside plain layers."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}

    def of_one(values: dict[str, Tensor], label: Tensor, factor: Tensor, *inputs: Tensor) -> Tensor:
        alone = tuple(part.unsqueeze(0) for part in inputs)
        with _at_precision(model, batch):
            logits = functional_call(_OnTensors(model), values, alone)
        return _loss(logits, label.unsqueeze(0), factor.unsqueeze(0))

    values = {f"model.{name}": parameter.detach() for name, parameter in trained.items()}
    inputs = model.gather(batch.states)
    labels, factors = batch.labels.to(model.device), batch.factors.to(model.device)
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention would fall back to a loop over examples
        each = vmap(grad(of_one), in_dims=(None, 0, 0, *[0] * len(inputs)))(values, labels, factors, *inputs)
    layers: dict[str, dict[nn.Parameter, Tensor]] = {}
    for name, parameter in trained.items():
        merged = batch.grouping.merged(each[f"model.{name}"])
        layers.setdefault(name.rpartition(".")[0], {})[parameter] = merged
    return [LayerGradients(batch.grouping, kept) for kept in layers.values()]


class _OnTensors(nn.Module):
    """Makes ``classify`` the forward pass, which functional_call can give other parameters."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model.classify(*inputs)


def _at_precision(model: Classifier, batch: Batch) -> torch.autocast:
    device = next(model.parameters()).device.type
    return torch.autocast(device, dtype=torch.bfloat16, enabled=batch.precision == "bfloat16")


def _loss(logits: Tensor, labels: Tensor, factors: Tensor) -> Tensor:
    losses = nn.functional.cross_entropy(logits.float(), labels.to(logits.device), reduction="none")
    return (losses * factors.to(logits.device)).sum()


def _factors(squares: Tensor, bound: float) -> Tensor:
    """Return min(1, bound / norm), and 0 where the norm is not finite."""
    factors = (bound / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    return torch.where(squares.isfinite(), factors, 0.0)

"""What one backward pass leaves at each trained layer: every unit's share of that layer's gradient.

A layer records the inputs X and the output gradients G of its forward calls; the parameters themselves take no part
in the backward pass, so that no ordinary sum of gradients is computed ("book-keeping", Bu, Wang, Zha, Karypis 2023,
arXiv:2210.00038). What is cheap to hold for each unit (LoRA, biases, norms) is held. Where a weight is larger than
the inputs and output gradients of a unit's T tokens, these are kept instead: the norm comes from their products over
pairs of tokens, ``|G'X|^2 = sum_st (x_s . x_t)(g_s . g_t)`` (ghost norm, Goodfellow 2015, arXiv:1510.01799;
Li et al. 2022, arXiv:2110.05679), and the clipped sum from one product with weighted rows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import InitVar, dataclass, field

import torch
from torch import Tensor, nn

from fedfm.errors import ModelError

RECORDED = (nn.Linear, nn.LayerNorm)
"""Layers whose gradients are recorded. Exactly these types: a subclass may use its weight in another way."""

_ROUNDING = 2.0**-23
"""Relative error that the products over pairs of tokens are allowed, on the safe side: norms err upwards."""
_ENTRIES = 2**22
"""Entries of per-unit weight gradients that are held at once where they are only needed for their norm."""


@dataclass(frozen=True)
class Grouping:
    """Which unit each example of a micro-batch belongs to.

    Attributes:
        unit_of: int64[B], in [0, units); the examples of a unit need not be neighbours.
        units: Number of units U.
    """

    unit_of: Tensor
    units: int

    def merged(self, per_example: Tensor) -> Tensor:
        """Return [U, ...], the sum over each unit's examples of [B, ...]."""
        if self.units == len(self.unit_of):  # one example each
            return per_example
        merged = per_example.new_zeros((self.units, *per_example.shape[1:]))
        return merged.index_add_(0, self.unit_of.to(per_example.device), per_example)

    def by_size(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, for each number K of examples, the units int64[u] that have K and their examples int64[u, K]."""
        sizes = torch.bincount(self.unit_of, minlength=self.units)
        examples = torch.argsort(self.unit_of, stable=True)
        starts = sizes.cumsum(0) - sizes
        for size in sorted(set(sizes.tolist())):
            units = (sizes == size).nonzero().flatten()
            yield units, examples[starts[units, None] + torch.arange(size)]


@dataclass(frozen=True)
class Rows:
    """A large weight's gradient before the product.

    Attributes:
        weight: float[out, in].
        inputs: float32[B, T, in].
        gradients: float32[B, T, out], zero at padding.
    """

    weight: nn.Parameter
    inputs: Tensor
    gradients: Tensor


@dataclass
class LayerGradients:
    """The gradient of one layer by unit.

    Attributes:
        grouping: Units of the examples.
        kept: Parameter to float32[U, ...], the gradient of each unit.
        rows: Weights that are kept as rows.
        squares: float32[U], the squared norm of each unit's gradient; not finite where it overflowed.
    """

    grouping: Grouping
    kept: dict[nn.Parameter, Tensor] = field(default_factory=dict)
    rows: list[Rows] = field(default_factory=list)
    products: InitVar[Callable[[Tensor], Tensor] | None] = None
    squares: Tensor = field(init=False)

    def __post_init__(self, products: Callable[[Tensor], Tensor] | None) -> None:
        products = products or TokenProducts()
        squares = [gradient.flatten(1).square().sum(1) for gradient in self.kept.values()]
        squares += [ghost_squares(row, self.grouping, products) for row in self.rows]
        self.squares = torch.stack(squares).sum(0)

    def weighted_sums(self, factors: Tensor) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Yield each parameter with the sum over units of its gradient times float32[U] factors.

        A unit of factor 0 adds nothing, whatever it holds.
        """
        out = factors == 0
        for parameter, gradient in self.kept.items():
            clean = gradient.masked_fill(_like(out, gradient), 0.0) if out.any() else gradient
            yield parameter, torch.tensordot(factors, clean, dims=1)
        of_example = factors[self.grouping.unit_of.to(factors.device)]
        for row in self.rows:
            inputs, gradients = row.inputs, row.gradients
            if out.any():
                nothing = _like(of_example == 0, inputs)
                inputs, gradients = inputs.masked_fill(nothing, 0.0), gradients.masked_fill(nothing, 0.0)
            if inputs.shape[2] < gradients.shape[2]:  # weigh the narrower; quicker as the left factor
                inputs = inputs * _like(of_example, inputs)
                yield row.weight, (inputs.flatten(0, 1).T @ gradients.flatten(0, 1)).T.contiguous()
            else:
                gradients = gradients * _like(of_example, gradients)
                yield row.weight, gradients.flatten(0, 1).T @ inputs.flatten(0, 1)


class TokenProducts:
    """Products ``x_s . x_t`` over pairs of tokens; those of the last inputs are kept, since layers share inputs."""

    def __init__(self) -> None:
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return float32[B, T, T] of float32[B, T, D]."""
        if self._last is None or self._last[0].data_ptr() != inputs.data_ptr() or self._last[0].shape != inputs.shape:
            self._last = (inputs, inputs @ inputs.mT)
        return self._last[1]


@contextmanager
def recording(model: nn.Module, grouping: Grouping) -> Iterator[list[LayerGradients]]:
    """Record the gradients of the trained layers in the block's one forward and one backward pass.

    Inside, no parameter requires a gradient. The list is filled by the backward pass.

    Args:
        model: Trains ``RECORDED`` layers only (``untrackable``).
        grouping: Units of the examples, which are the first dimension of every layer's input.

    Raises:
        ModelError: A trained layer took no part, or was called in a way that has no gradient for each example.
    """
    found: list[LayerGradients] = []
    trained = {name: layer for name, layer in model.named_modules() if _own_trained(layer)}
    shared = _Shared(grouping, found, TokenProducts())
    recorders = {name: _Recorder(name, layer, shared) for name, layer in trained.items()}
    parameters = [parameter for recorder in recorders.values() for parameter in recorder.trained.values()]
    handles = [trained[name].register_forward_hook(recorder.forward) for name, recorder in recorders.items()]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
        for parameter in parameters:
            parameter.requires_grad_(True)
    for name, recorder in recorders.items():
        if recorder.calls != 1 or not recorder.is_done:
            raise _unrecorded(name, f"{recorder.calls} calls" if recorder.calls != 1 else "no gradient reached it")


def untrackable(model: nn.Module) -> list[str]:
    """Return the names of trained parameters that sit in no layer of ``RECORDED``."""
    return [
        f"{name}.{own}".removeprefix(".")
        for name, layer in model.named_modules()
        if type(layer) not in RECORDED
        for own, parameter in layer.named_parameters(recurse=False)
        if parameter.requires_grad
    ]


@dataclass(frozen=True)
class _Shared:
    grouping: Grouping
    found: list[LayerGradients]
    products: TokenProducts


class _Recorder:
    """Hooks of one layer. Bound methods, so that explanations can tell that a private step is on."""

    def __init__(self, name: str, layer: nn.Module, shared: _Shared) -> None:
        self.name, self.layer, self.shared, self.grouping = name, layer, shared, shared.grouping
        self.trained = _own_trained(layer)
        self.calls, self.is_done = 0, False

    def forward(self, _layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        self.calls += 1
        inputs, version = arguments[0].detach(), arguments[0]._version
        if len(inputs) != len(self.grouping.unit_of):
            raise _unrecorded(self.name, "an input whose first dimension is not the examples")
        if not output.requires_grad:  # the first trained layer
            output.requires_grad_()
        held = [inputs]  # let go by the backward pass, layer by layer: the graph holds this hook to its end
        del inputs

        def backward(gradients: Tensor) -> None:
            kept = held.pop()
            if kept._version != version:
                raise _unrecorded(self.name, "its input was changed in place")
            self._record(_rows(kept), _rows(gradients))

        output.register_hook(backward)  # type: ignore[no-untyped-call]  # torch has no types here

    def _record(self, inputs: Tensor, gradients: Tensor) -> None:
        kept: dict[nn.Parameter, Tensor] = {}
        rows: list[Rows] = []
        for name, parameter in self.trained.items():
            if name == "bias":
                kept[parameter] = self.grouping.merged(
                    (gradients.new_ones(1, gradients.shape[1]) @ gradients).squeeze(1)
                )
            elif isinstance(self.layer, nn.LayerNorm):
                normal = nn.functional.layer_norm(inputs, self.layer.normalized_shape, eps=self.layer.eps)
                kept[parameter] = self.grouping.merged(normal.mul_(gradients).sum(1))
            elif _is_small(parameter, inputs, self.grouping):
                kept[parameter] = self.grouping.merged(gradients.mT @ inputs)
            else:
                rows.append(Rows(parameter, inputs, gradients))
        self.shared.found.append(LayerGradients(self.grouping, kept, rows, self.shared.products))
        self.is_done = True


def _is_small(weight: Tensor, inputs: Tensor, grouping: Grouping) -> bool:
    """Whether a gradient for each unit takes no more room than the inputs and output gradients of its tokens."""
    tokens = inputs.shape[0] * inputs.shape[1] / grouping.units
    return weight.numel() <= tokens * sum(weight.shape)


def ghost_squares(row: Rows, grouping: Grouping, products: Callable[[Tensor], Tensor]) -> Tensor:
    """Return float32[U], the squared norm of each unit's gradient of the weight, never below it by more than rounding.

    By products over pairs of tokens, or by the gradient itself where a unit has so many tokens that this is cheaper.
    """
    if grouping.units == len(grouping.unit_of):
        return _squares(row.inputs, row.gradients, products)
    squares = row.inputs.new_empty(grouping.units)
    for units, examples in grouping.by_size():
        inputs, gradients = (part[examples.to(part.device)].flatten(1, 2) for part in (row.inputs, row.gradients))
        squares[units.to(squares.device)] = _squares(inputs, gradients, products)
    return squares


def _squares(inputs: Tensor, gradients: Tensor, products: Callable[[Tensor], Tensor]) -> Tensor:
    size_in, size_out = inputs.shape[2], gradients.shape[2]
    if inputs.shape[1] * (size_in + size_out) > size_in * size_out:
        at_once = max(1, _ENTRIES // (size_in * size_out))
        pairs = zip(torch.split(inputs, at_once), torch.split(gradients, at_once), strict=True)
        return torch.cat([(g.mT @ x).flatten(1).square().sum(1) for x, g in pairs])
    x, g = products(inputs), gradients @ gradients.mT
    # Where tokens cancel each other the sum is small beside its rounding error: never claim a norm below it.
    largest = (x.diagonal(dim1=1, dim2=2) * g.diagonal(dim1=1, dim2=2)).sqrt().sum(1).square()
    return (x * g).sum((1, 2)).clamp(min=0.0) + _ROUNDING * largest


def _rows(values: Tensor) -> Tensor:
    """Return float32[B, T, D] of [B, D] or [B, ..., D]."""
    return values.detach().float().reshape(len(values), -1, values.shape[-1])


def _like(of_rows: Tensor, values: Tensor) -> Tensor:
    return of_rows.view(-1, *[1] * (values.dim() - 1))


def _own_trained(layer: nn.Module) -> dict[str, nn.Parameter]:
    return {name: own for name, own in layer.named_parameters(recurse=False) if own.requires_grad}


def _unrecorded(name: str, found: str) -> ModelError:
    return ModelError(
        "MODEL-E150",
        "a trained layer gives no gradient for each patient",
        where=name,
        found=found,
        allowed="one call in each forward pass, with the examples as first dimension",
        fix="freeze the layer, or choose another adapter",
    )

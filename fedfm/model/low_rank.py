"""What of a low-rank adapter changes untrained: a refreshed A, a residual in frozen weights; and its rank at a site."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from fedfm.arrays import Arrays
from fedfm.low_rank import LORA_A, residual_of
from fedfm.model.classifier import Classifier
from fedfm.parameters import public_name

_BASE = ".base_layer.weight"
_ADAPTER = "default"
"""PEFT's name of the only adapter there is."""


def frozen_as_built(model: Classifier, kind: str) -> Arrays:
    """Return by public name what a combiner changes between rounds, as it is now.

    Args:
        model: As ``build_model`` made it.
        kind: ``factor``: the frozen A of each adapted layer; ``residual``: the weight that each adapts; else nothing.
    """
    ends = {"factor": LORA_A, "residual": _BASE}
    if kind not in ends:
        return {}
    named = {name + ends[kind]: layer for name, layer in _layers(model).items()}
    return {
        name: (_a(layer) if kind == "factor" else _base(layer)).detach().cpu().numpy().copy()
        for name, layer in named.items()
    }


def frozen_with(model: Classifier, built: Arrays, received: Arrays) -> Arrays:
    """Return the values that ``built`` takes with what is received: a factor replaced, a residual added.

    Args:
        model: Says by how much each layer's products are scaled.
        built: As ``frozen_as_built`` returned it.
        received: float32 factors by name, or of a residual; nothing leaves all as built.

    Guarantees:
        Depends on nothing that was loaded before, so that who missed rounds has what the others have.
    """
    layers = _layers(model)
    values = {}
    for name, array in built.items():
        if name.endswith(LORA_A):
            values[name] = received.get(name, array)
        else:
            layer = name.removesuffix(_BASE)
            values[name] = (array + layers[layer].scaling[_ADAPTER] * residual_of(received, layer)).astype(array.dtype)
    return values


def set_frozen(model: Classifier, values: Arrays) -> None:
    """Overwrite frozen parameters in place, by public name."""
    parameters = {public_name(name): parameter for name, parameter in model.named_parameters()}
    with torch.no_grad():
        for name, array in values.items():
            parameters[name].copy_(torch.from_numpy(array))


@contextmanager
def at_rank(model: Classifier, rank: int) -> Iterator[None]:
    """Let the adapted layers have only the first ``rank`` rows of A and columns of B within the block.

    The factor alpha / rank stays that of the whole adapter. Afterwards what was trained stands in the whole factors.
    Where A is trained the rest is left out, and zero afterwards: the product is that of the part. Where A is frozen the
    rest takes part, frozen, and is afterwards as it was.

    Args:
        model: With LoRA layers.
        rank: At least 1; one that is not below the adapter's changes nothing.
    """
    narrowed = [_Narrowed(layer, rank) for layer in _layers(model).values() if rank < len(_a(layer))]
    try:
        yield
    finally:
        for layer in narrowed:
            layer.widen()


class _Narrowed:
    """A layer with a part of its factors, and what it needs to be whole again."""

    def __init__(self, layer: LoraLayer, rank: int) -> None:
        self._layer, self._rank = layer, rank
        self._a, self._b = layer.lora_A[_ADAPTER], layer.lora_B[_ADAPTER]
        self._base = _base(layer).detach().clone()
        a, b = _weight(self._a), _weight(self._b)
        with torch.no_grad():
            if not a.requires_grad:
                _base(layer).add_(b[:, rank:] @ a[rank:], alpha=layer.scaling[_ADAPTER])
            layer.lora_A[_ADAPTER] = _linear(a[:rank], is_trained=a.requires_grad)
            layer.lora_B[_ADAPTER] = _linear(b[:, :rank], is_trained=b.requires_grad)

    def widen(self) -> None:
        layer, rank, a, b = self._layer, self._rank, _weight(self._a), _weight(self._b)
        part_a, part_b = _weight(layer.lora_A[_ADAPTER]), _weight(layer.lora_B[_ADAPTER])
        layer.lora_A[_ADAPTER], layer.lora_B[_ADAPTER] = self._a, self._b
        with torch.no_grad():
            _base(layer).copy_(self._base)
            b[:, :rank] = part_b
            if a.requires_grad:
                a[:rank] = part_a
                a[rank:], b[:, rank:] = 0.0, 0.0


def _linear(weight: torch.Tensor, *, is_trained: bool) -> nn.Linear:
    """Return a layer of this weight; exactly an ``nn.Linear``, whose gradients are recorded by patient."""
    out, size = weight.shape
    layer = nn.Linear(size, out, bias=False, device="meta")  # draws nothing
    layer.weight = nn.Parameter(weight.clone(), requires_grad=is_trained)
    return layer


def _layers(model: Classifier) -> dict[str, LoraLayer]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}


def _a(layer: LoraLayer) -> nn.Parameter:
    return _weight(layer.lora_A[_ADAPTER])


def _base(layer: LoraLayer) -> nn.Parameter:
    return _weight(layer.get_base_layer())


def _weight(layer: nn.Module) -> nn.Parameter:
    return layer.get_parameter("weight")

"""Whether a model can be trained privately: every reason why not, each with the nearest way out.

Checked before any charge to the ledger, so that a model that cannot be trained costs no privacy.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from fedfm.errors import ModelError


@dataclass(frozen=True)
class Problem:
    """One reason.

    Attributes:
        where: Name of the layer or parameter.
        reason: Why no patient's gradient could be bounded or computed.
        fix: The nearest choice that can be private.
    """

    where: str
    reason: str
    fix: str


def problems_of(model: nn.Module) -> list[Problem]:
    """Return all reasons why the model cannot be trained privately; empty where it can."""
    return [problem for check in _CHECKS for problem in check(model)]


def refuse_unfit(model: nn.Module) -> None:
    """Return if the model can be trained privately.

    Raises:
        ModelError: It cannot; names every reason.
    """
    found = problems_of(model)
    if found:
        raise ModelError(
            "MODEL-E151",
            "the model cannot be trained privately: " + "; ".join(f"{each.where}: {each.reason}" for each in found),
            where=found[0].where,
            fix="; ".join(dict.fromkeys(each.fix for each in found)),
        )


def _nothing_trained(model: nn.Module) -> Iterator[Problem]:
    if not any(parameter.requires_grad for parameter in model.parameters()):
        yield Problem("model", "nothing is trained", "choose an adapter")


def _batch_statistics(model: nn.Module) -> Iterator[Problem]:
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm):
            reason = "batch normalisation mixes the patients of a batch, so that no gradient is one patient's"
            yield Problem(name, reason, "use nn.GroupNorm or nn.LayerNorm")


def _attention(model: nn.Module) -> Iterator[Problem]:
    for name, layer in model.named_modules():
        if isinstance(layer, nn.MultiheadAttention) and any(own.requires_grad for own in layer.parameters()):
            reason = "nn.MultiheadAttention uses its weights without calling the layers that hold them"
            yield Problem(name, reason, "freeze it, or build attention from nn.Linear and scaled_dot_product_attention")


def _buffers(model: nn.Module) -> Iterator[Problem]:
    for name, layer in model.named_modules():
        trained = any(own.requires_grad for own in layer.parameters(recurse=False))
        if trained and not isinstance(layer, _BatchNorm) and next(layer.buffers(recurse=False), None) is not None:
            reason = "a trained layer with buffers may carry patients' values past the clipping"
            yield Problem(name, reason, "freeze the layer, or move the buffer to a layer that is not trained")


def _tied(model: nn.Module) -> Iterator[Problem]:
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad and first.setdefault(id(parameter), name) != name:
            reason = f"shares its parameter with {first[id(parameter)]}, so that its gradient comes in two parts"
            yield Problem(name, reason, "give each layer a parameter of its own, or freeze it")


def _dropout(model: nn.Module) -> Iterator[Problem]:
    for name, layer in model.named_modules():
        if isinstance(layer, _DropoutNd) and layer.p > 0:
            reason = "dropout draws from torch's generator, and would make results depend on the micro-batches"
            yield Problem(name, reason, "set its rate to 0; the noise regularises")


def _checkpointing(model: nn.Module) -> Iterator[Problem]:
    for name, layer in model.named_modules():
        if getattr(layer, "gradient_checkpointing", False):
            reason = "gradient checkpointing runs layers twice, and their gradients would be recorded twice"
            yield Problem(name or "model", reason, "switch it off, and set a smaller micro_batch")


def _evaluating(model: nn.Module) -> Iterator[Problem]:
    off = [name or "model" for name, layer in model.named_modules() if not layer.training]
    if off:
        yield Problem(off[0], "is in evaluation mode", "call model.train()")


_CHECKS: tuple[Callable[[nn.Module], Iterator[Problem]], ...] = (
    _nothing_trained,
    _batch_statistics,
    _attention,
    _buffers,
    _tied,
    _dropout,
    _checkpointing,
    _evaluating,
)

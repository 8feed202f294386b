"""Explanations never go through a model whose gradients somebody records."""

from torch.nn.modules import module as torch_module

from fedfm.errors import ModelError
from fedfm.model.classifier import Classifier


def refuse_hooks(model: Classifier) -> None:
    """Refuse a model with any hook, on a layer or on all modules there are.

    A private step, the site's or Opacus's, records activations and gradients through hooks, and would take those of
    an explanation for its own. What a hook records cannot be told from what it is (a function, a closure, a partial),
    and nothing else puts hooks on these models; so none is let through.

    Raises:
        ModelError: There is a hook.
    """
    if any(getattr(torch_module, f"_global{kind}") for kind in _HOOKS):
        raise _hooked("all modules")
    for name, layer in model.named_modules():
        if any(getattr(layer, kind) for kind in _HOOKS):
            raise _hooked(name or "model")


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Where torch keeps hooks that see what goes through a layer; with ``_global`` before, through every layer."""


def _hooked(where: str) -> ModelError:
    return ModelError(
        "MODEL-E147",
        "explanations were asked of a model in a private training step",
        where=where,
        found="hooks, which may record gradients",
        fix="remove the hooks first, explain after the step",
    )

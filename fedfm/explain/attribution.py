"""How much each token or column speaks for the predicted class.

To add a method: write a function with the signature of ``integrated_gradients``, add it to ``ATTRIBUTIONS``
and its name to the choices of ``explainability.attribution``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedfm.errors import ModelError
from fedfm.model.classifier import Classifier, Inputs

ROWS = 32
"""Points on paths that go through the model at once."""


@dataclass(frozen=True)
class Method:
    """How words are credited.

    Attributes:
        name: Key of ``ATTRIBUTIONS``.
        steps: Points on a path, or draws, for the methods that have some.
        baseline: The study's ``explainability.baseline``.
    """

    name: str = "integrated_gradients"
    steps: int = 10
    baseline: str = "pad"


@dataclass(frozen=True)
class Attribution:
    """Credits of a batch of examples. Sample-level: never leaves the hospital.

    Attributes:
        target: int64[B] the predicted class, which is explained.
        credits: float32[B, U] share of each unit in the target's logit; 0 for units that must stay.
        completeness_error: float32[B] ``|sum of credits - difference| / |difference|``, where the difference
            is the target's logit minus that of the baseline; 0 or more, 0 is exact. None where credits need not sum
            to anything.
    """

    target: Tensor
    credits: Tensor
    completeness_error: Tensor | None


def attribute(model: Classifier, inputs: Inputs, method: Method) -> Attribution:
    """Credit the units of each example by the named method.

    Raises:
        ModelError: Hooks of a private step are attached; a backward pass now would corrupt it. Or the model lacks
            what the method needs.
    """
    refuse_hooks(model)
    return ATTRIBUTIONS[method.name](model, inputs, method)


def integrated_gradients(model: Classifier, inputs: Inputs, method: Method) -> Attribution:
    """Return the gradient of the predicted logit, averaged on the straight path from the baseline, times the path.

    The average is taken at ``method.steps`` Gauss-Legendre nodes. Gradients go to the inputs only; the
    parameters' gradients are not touched.

    Source: Sundararajan, Taly, Yan 2017, arXiv:1703.01365, equation 1.
    """
    with torch.no_grad():
        logits = model.logits_from_inputs(inputs.values, inputs.present)
        target = logits.argmax(dim=1)
        nothing = model.logits_from_inputs(inputs.baseline, inputs.present)
    path = inputs.values - inputs.baseline
    credits_ = (path * _mean_gradient(model, inputs, target=target, steps=method.steps)).sum(-1)
    difference = (logits - nothing).gather(1, target[:, None]).squeeze(1)
    gap = (credits_.sum(1) - difference).abs()
    # Where nothing could be credited both are exactly zero, and so is the error.
    error = torch.where(gap == 0, gap, gap / difference.abs())
    return Attribution(target=target, credits=credits_, completeness_error=error)


ATTRIBUTIONS: dict[str, Callable[[Classifier, Inputs, Method], Attribution]] = {
    "integrated_gradients": integrated_gradients
}
"""Name to what credits units; ``attribute`` calls it."""


def refuse_hooks(model: Classifier) -> None:
    """Refuse a model whose gradients are being recorded for a private step, by the site or by Opacus.

    Raises:
        ModelError: A layer carries such a hook.
    """
    for name, module in model.named_modules():
        for hook in module._forward_hooks.values():
            if type(getattr(hook, "__self__", None)).__module__.startswith(_RECORDERS):
                raise ModelError(
                    "MODEL-E147",
                    "explanations were asked of a model in a private training step",
                    where=name or "model",
                    found="hooks that record gradients",
                    fix="remove the hooks first, explain after the step",
                )


_RECORDERS = ("client_app.layer_gradients", "opacus.")


def _mean_gradient(model: Classifier, inputs: Inputs, *, target: Tensor, steps: int) -> Tensor:
    """Return float32[B, U, D]: Gauss-Legendre average of the target logit's gradient between baseline and values."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    device = inputs.values.device
    at = torch.tensor((nodes + 1) / 2, dtype=torch.float32, device=device)
    weight = torch.tensor(weights / 2, dtype=torch.float32, device=device)
    path, mean = inputs.values - inputs.baseline, torch.zeros_like(inputs.values)
    for rows in torch.split(torch.arange(len(target) * steps, device=device), ROWS):
        example, step = rows // steps, rows % steps
        with torch.enable_grad():
            points = (inputs.baseline[example] + at[step, None, None] * path[example]).requires_grad_(True)
            logits = model.logits_from_inputs(points, inputs.present[example])
            reached = logits.gather(1, target[example, None]).sum()
            (gradient,) = torch.autograd.grad(reached, points)
        mean.index_add_(0, example, weight[step, None, None] * gradient)
    return mean

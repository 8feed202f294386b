"""Credits from gradients of the predicted logit with respect to the units; parameters get none."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedfm.explain.credits import Attribution, Method, predicted
from fedfm.explain.passes import logits_of, passes
from fedfm.model.classifier import Classifier, Inputs
from fedfm.model.draws import uniform


@dataclass(frozen=True)
class _Paths:
    """Straight paths to the values of each example, with a point of K on each.

    Attributes:
        start: From int64[R] examples and int64[R] steps to float32[R, U, D], where the paths begin.
        at: float32[K] how far along the point lies, 0 at the start and 1 at the values.
        weight: float32[K] what the point counts for; together 1.
    """

    start: Callable[[Tensor, Tensor], Tensor]
    at: Tensor
    weight: Tensor


@torch.no_grad()
def integrated_gradients(model: Classifier, inputs: Inputs, method: Method) -> Attribution:
    """Return the gradient of the predicted logit, averaged on the straight path from the baseline, times the path.

    The average is taken at the midpoints of ``method.steps`` equal parts. Gauss-Legendre nodes lie farthest apart in
    the middle of the path, where the logit of a text model turns most, and need about a fifth more of them to add up.

    Source: Sundararajan, Taly, Yan 2017, arXiv:1703.01365, equation 1.
    """
    target, reached = predicted(model, inputs)
    saying_nothing = logits_of(model, lambda rows: inputs.baseline[rows], inputs.present)
    nothing = saying_nothing.gather(1, target[:, None]).squeeze(1)
    steps = method.steps
    paths = _Paths(
        start=lambda example, _step: inputs.baseline[example],
        at=_float32((np.arange(steps) + 0.5) / steps, inputs),
        weight=_float32(np.full(steps, 1 / steps), inputs),
    )
    credits_ = _along(model, inputs, paths=paths, target=target)
    difference = reached - nothing
    gap = (credits_.sum(1) - difference).abs()
    # Where nothing could be credited both are exactly zero, and so is the error.
    error = torch.where(gap == 0, gap, gap / difference.abs())
    return Attribution(target=target, credits=credits_, completeness_error=error)


@torch.no_grad()
def expected_gradients(model: Classifier, inputs: Inputs, method: Method) -> Attribution:
    """Return the path times the gradient, averaged over ``method.steps`` paths from references drawn at random.

    The references are public draws (``Classifier.drawn``), or those of ``method.references`` in turn. On each path the
    point lies at random in a part of its own of K equal ones. All of it is drawn from the study's public seed and is
    the same for every example, so that a document has the same credits in any company, and every time.

    Source: Erion, Janizek, Sturmfels, Lundberg, Lee 2021, arXiv:1906.10670, equation 2.
    """
    target, _ = predicted(model, inputs)
    steps = method.steps
    references = _references(model, inputs, method)
    within = uniform(model.recipe.seed, "expected_gradients", (steps,))
    paths = _Paths(
        start=lambda example, step: torch.where(
            inputs.removable[example].unsqueeze(-1), references[step], inputs.values[example]
        ),
        at=_float32((np.arange(steps) + within) / steps, inputs),
        weight=_float32(np.full(steps, 1 / steps), inputs),
    )
    return Attribution(target, _along(model, inputs, paths=paths, target=target), completeness_error=None)


@torch.no_grad()
def gradient_input(model: Classifier, inputs: Inputs, _method: Method) -> Attribution:
    """Return the gradient of the predicted logit times the unit itself, whatever the baseline.

    One forward and one backward pass; measured to be worse than a random order on some text models.

    Source: Shrikumar, Greenside, Shcherbina, Kundaje 2016, arXiv:1605.01713.
    """
    target, gradient = _at_values(model, inputs)
    credits_ = (gradient * inputs.values).sum(-1).masked_fill(~inputs.removable, 0.0)
    return Attribution(target, credits_, completeness_error=None)


@torch.no_grad()
def gradient_norm(model: Classifier, inputs: Inputs, _method: Method) -> Attribution:
    """Return the length of the gradient of the predicted logit at each unit; never negative.

    For comparison: it says where the model is sensitive, not for what, so that it hardly changes when the head is
    drawn anew (it fails the randomisation test).

    Source: Simonyan, Vedaldi, Zisserman 2014, arXiv:1312.6034, section 3.
    """
    target, gradient = _at_values(model, inputs)
    return Attribution(target, gradient.norm(dim=-1).masked_fill(~inputs.removable, 0.0), completeness_error=None)


def _along(model: Classifier, inputs: Inputs, *, paths: _Paths, target: Tensor) -> Tensor:
    """Return float32[B, U]: over the K points the weighted sum of gradient times path."""
    steps = len(paths.at)
    credits_ = inputs.values.new_zeros(inputs.present.shape)
    for rows in passes(inputs.present.sum(1).repeat_interleave(steps)):
        example, step = rows // steps, rows % steps
        start = paths.start(example, step)
        path = inputs.values[example] - start
        points = start + paths.at[step, None, None] * path
        gradient = _gradient(model, points, inputs.present[example], target=target[example])
        credits_.index_add_(0, example, paths.weight[step, None] * (gradient * path).sum(-1))
    return credits_


def _at_values(model: Classifier, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Return int64[B] predicted classes, and float32[B, U, D] gradients of their logits at the values."""
    target, _ = predicted(model, inputs)
    found = torch.zeros_like(inputs.values)
    for rows in passes(inputs.present.sum(1)):
        found[rows] = _gradient(model, inputs.values[rows], inputs.present[rows], target=target[rows])
    return target, found


def _gradient(model: Classifier, points: Tensor, present: Tensor, *, target: Tensor) -> Tensor:
    """Return float32[R, U, D]: gradient of each row's target logit with respect to its units, and to nothing else."""
    with torch.enable_grad():
        points = points.detach().requires_grad_(True)
        reached = model.logits_from_inputs(points, present).gather(1, target[:, None]).sum()
        (gradient,) = torch.autograd.grad(reached, points)
    return gradient


def _references(model: Classifier, inputs: Inputs, method: Method) -> Tensor:
    """Return float32[K, U, D], what each path begins with in the place of units that may be credited."""
    units, given = inputs.values.shape[1], method.references
    if given is None:
        return model.drawn(method.steps, units)
    rows = [values[plain] for values, plain in zip(given.values, given.removable, strict=True) if plain.any()]
    if not rows:
        raise ValueError("references without a single unit")
    long_enough = [row.repeat(math.ceil(units / len(row)), 1)[:units] for row in rows]
    return torch.stack([long_enough[step % len(rows)] for step in range(method.steps)])


def _float32(values: np.ndarray, inputs: Inputs) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=inputs.values.device)

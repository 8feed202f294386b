"""One private step of SGD: every patient's gradient clipped, noise from the operating system.

DP-SGD (Abadi et al. 2016, arXiv:1607.00133) from Opacus's parts: its hooks give one gradient
for each example, its optimiser clips and sums. Between the two we average the examples of one
patient, so that the bound holds for a patient and not for a note; and the noise is ours.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from opacus.grad_sample import GradSampleHooks
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer import _mark_as_processed
from torch import Tensor, nn

from client_app.noise import secure_normal

_PER_EXAMPLE, _CLIPPED_SUM = "grad_sample", "summed_grad"  # where Opacus keeps them on a parameter


@dataclass(frozen=True)
class Mechanism:
    """The Gaussian mechanism of a study at this site.

    Attributes:
        noise_multiplier: Noise in clipping norms; 0 only in studies without privacy.
        max_grad_norm: Clipping norm C of one unit's gradient, over all parameters; > 0.
        expected_units: Public number of units in a step: sample rate times declared cohort; > 0.
    """

    noise_multiplier: float
    max_grad_norm: float
    expected_units: float


class SecureDPOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus has no types
    """Opacus's optimiser with noise from the operating system's entropy; all else is inherited."""

    def add_noise(self) -> None:
        """Set each ``p.grad`` to the clipped sum plus noise of standard deviation ``noise_multiplier * C``."""
        sizes = [parameter.numel() for parameter in self.params]
        noise = torch.from_numpy(secure_normal(sum(sizes))) * (self.noise_multiplier * self.max_grad_norm)
        for parameter, part in zip(self.params, noise.split(sizes), strict=True):
            part = part.view_as(parameter).to(parameter.device, torch.float32)  # noqa: PLW2901
            parameter.grad = (parameter.summed_grad + part).view_as(parameter)
            _mark_as_processed(parameter.summed_grad)


@contextmanager
def per_example_gradients(model: nn.Module) -> Iterator[None]:
    """Attach Opacus's hooks to the trainable layers for the length of the block.

    No gradient may be taken for another purpose inside: it would join the private step.
    """
    hooks = GradSampleHooks(model, loss_reduction="sum")
    try:
        with warnings.catch_warnings():
            # expected: the cached states that enter the first trainable layer need no gradient
            warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
            yield
    finally:
        hooks.cleanup()


def merge_units(parameters: Sequence[nn.Parameter], unit_of: Tensor, units: int) -> None:
    """Sum each ``p.grad_sample`` over the examples of one unit.

    Args:
        parameters: The trainable parameters, after the backward pass.
        unit_of: int64[B], the unit of each example, in [0, units).
        units: Number of units U in this micro-batch.

    Guarantees:
        ``p.grad_sample`` is [U, ...] and finite afterwards; clipping it bounds the unit, however many
        examples it has and whatever they hold. Entries that overflowed count as 0.
    """
    for parameter in parameters:
        per_example: Tensor = getattr(parameter, _PER_EXAMPLE)
        merged = per_example.new_zeros((units, *per_example.shape[1:]))
        merged.index_add_(0, unit_of.to(per_example.device), per_example)
        setattr(parameter, _PER_EXAMPLE, torch.nan_to_num_(merged, nan=0.0, posinf=0.0, neginf=0.0))


def no_units(parameters: Sequence[nn.Parameter]) -> None:
    """Make the step a step of noise alone, as the accountant assumes when the sample is empty."""
    for parameter in parameters:
        setattr(parameter, _PER_EXAMPLE, parameter.new_zeros((0, *parameter.shape)))


def forget_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Drop every gradient of the last step, of single units too."""
    for parameter in parameters:
        parameter.grad = None
        setattr(parameter, _PER_EXAMPLE, None)
        setattr(parameter, _CLIPPED_SUM, None)

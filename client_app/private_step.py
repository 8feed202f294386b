"""One private step of SGD: every patient's gradient clipped, noise from the operating system.

DP-SGD (Abadi et al. 2016, arXiv:1607.00133). ``client_app.per_unit_gradients`` gives the sum of the patients' clipped
gradients; Opacus's optimiser gathers the micro-batches of a step and steps; the noise is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from opacus.optimizers import DPOptimizerFastGradientClipping
from opacus.optimizers.optimizer import _check_processed_flag, _mark_as_processed
from torch import nn

from client_app.noise import noised

_STEP_SUM = "summed_grad"  # where Opacus keeps a step's sum on a parameter


@dataclass(frozen=True)
class Mechanism:
    """The Gaussian mechanism of a study at this site.

    Attributes:
        noise_multiplier: Noise in clipping norms; 0 only in studies without privacy.
        max_grad_norm: Clipping norm C of one unit's gradient, over all parameters; > 0.
        expected_units: Public number of units in a step: sample rate times declared cohort; > 0.
        clipping: ``flat`` or ``per_layer``, see ``per_unit_gradients``.
    """

    noise_multiplier: float
    max_grad_norm: float
    expected_units: float
    clipping: str = "flat"


class SecureDPOptimizer(DPOptimizerFastGradientClipping):  # type: ignore[misc]  # Opacus has no types
    """Opacus's optimiser for gradients that are clipped already; sums in float64, noise from the operating system.

    Give each ``p.grad`` the clipped sum of a micro-batch, then call ``step``.
    """

    def accumulate(self) -> None:
        """Add each ``p.grad`` to the step's sum, and take it away."""
        for parameter in self.params:
            earlier, found = parameter.summed_grad, parameter.grad
            parameter.summed_grad = found if earlier is None else earlier.double().add_(found)
            parameter.grad = None

    def add_noise(self) -> None:
        """Set each ``p.grad`` to the clipped sum plus noise of standard deviation ``noise_multiplier * C``."""
        scale = self.noise_multiplier * self.max_grad_norm
        for parameter in self.params:
            _check_processed_flag(parameter.summed_grad)
            parameter.grad = noised(parameter.summed_grad, scale).float()
            _mark_as_processed(parameter.summed_grad)


def forget_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Drop every gradient of the last step."""
    for parameter in parameters:
        parameter.grad = None
        setattr(parameter, _STEP_SUM, None)

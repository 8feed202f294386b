"""A fixed step before what is trained: values less a mean, divided by a scale. Never trained, never in an update."""

import numpy as np
import torch
from torch import Tensor, nn

from fedfm.arrays import Arrays, check_layout
from fedfm.errors import WireError
from fedfm.statistics import LARGEST_MEAN, SCALES


class Standardization(nn.Module):
    """``(values - mean) / scale``.

    Attributes:
        mean: float32[F] for columns, float32[D] for states.
        scale: float32[F] for columns, float32[1] for states: noise would drown one for each coordinate.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, values: Tensor) -> Tensor:
        """Return float32[B, F] or float32[B, D]."""
        return (values - self.mean) / self.scale

    def arrays(self) -> Arrays:
        """Return float32 copies of mean and scale by name."""
        return {name: buffer.cpu().numpy().copy() for name, buffer in self.named_buffers()}

    def set(self, statistics: Arrays) -> None:
        """Take over mean and scale; on this module's device.

        Raises:
            WireError: Other names or shapes, or numbers that could overflow; nothing has been changed then.
        """
        check_layout(statistics, like=self.arrays())
        mean, scale = statistics["mean"], statistics["scale"]
        fits = (np.abs(mean) <= LARGEST_MEAN).all() and ((scale >= SCALES[0]) & (scale <= SCALES[1])).all()
        if not fits:
            raise WireError(
                "WIRE-E014",
                "statistics that are not finite, or out of range",
                where="statistics of the request",
                allowed=f"means up to {LARGEST_MEAN:g}, scales from {SCALES[0]:g} to {SCALES[1]:g}",
                fix="the coordinator must mend it",
            )
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(scale))


def of_states(size: int) -> Standardization:
    """Return the standardisation of states that changes nothing."""
    return Standardization(torch.zeros(size), torch.ones(1))


def of_columns(count: int) -> Standardization:
    """Return the standardisation of columns that changes nothing."""
    return Standardization(torch.zeros(count), torch.ones(count))

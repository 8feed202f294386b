"""Public random starting values: the same for everybody who knows the study's seed and the parameter's name.

Drawn from the raw bits of PCG64, whose stream numpy keeps for ever; so that a coordinator and a site with
different versions of numpy or torch, or with a GPU, still rebuild the same frozen factor to the last bit.
"""

import hashlib
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def kaiming_uniform(seed: int, name: str, shape: tuple[int, int]) -> Tensor:
    """Return float32[out, in] uniform in ±1/sqrt(in), as PEFT and torch initialise linear layers."""
    bound = 1.0 / math.sqrt(shape[1])
    return _float32((2.0 * uniform(seed, name, shape) - 1.0) * bound)


def normal(seed: int, name: str, *, shape: tuple[int, ...], sd: float) -> Tensor:
    """Return float32 normal values of mean 0 (Box and Muller 1958)."""
    radius = np.sqrt(-2.0 * np.log1p(-uniform(seed, f"{name}/radius", shape)))
    return _float32(sd * radius * np.cos(2.0 * np.pi * uniform(seed, f"{name}/angle", shape)))


def uniform(seed: int, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return float64 values in [0, 1), exact multiples of 2**-53."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    raw = np.random.PCG64(int.from_bytes(digest, "big")).random_raw(math.prod(shape))
    return np.asarray((raw >> np.uint64(11)) * 2.0**-53, dtype=np.float64).reshape(shape)


def linear_head(size: int, labels: int, *, seed: int) -> nn.Linear:
    """Return a linear layer with public normal weights (sd 0.02) and zero bias."""
    head = nn.Linear(size, labels)
    with torch.no_grad():
        head.weight.copy_(normal(seed, "head.weight", shape=(labels, size), sd=0.02))
        head.bias.zero_()
    return head


def _float32(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))

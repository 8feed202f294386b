"""Randomness for privacy: ChaCha20 keyed by the operating system. No seed exists.

Neither NumPy's nor PyTorch's generators take part: PyTorch's CPU generator keeps 32 bits
of its seed, and two sites with one seed would add the same noise, which the coordinator
could subtract.
"""

import math
import os

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray
from torch import Tensor


def secure_uniform(count: int) -> NDArray[np.float64]:
    """Return ``count`` independent draws, uniform on (0, 1], each from 53 random bits."""
    return _uniform(count).numpy()


def secure_normal(count: int) -> NDArray[np.float64]:
    """Return ``count`` independent standard normal draws (Box and Muller 1958).

    Guarantees:
        A fresh 256-bit key from the operating system for each call, so that no two calls,
        sites or restarts share noise. float64 throughout; what is added to a sum goes through
        ``on_grid``.
    """
    pairs = (count + 1) // 2
    uniform = _uniform(2 * pairs)
    radius, angle = uniform[:pairs].log_().mul_(-2.0).sqrt_(), uniform[pairs:].mul_(2.0 * math.pi)
    other = angle.sin().mul_(radius)
    torch.mul(angle.cos_(), radius, out=uniform[:pairs])
    uniform[pairs:] = other
    return uniform[:count].numpy()


def on_grid(noised: Tensor, scale: float) -> Tensor:
    """Return float64 noised values, rounded to multiples of a power of two between scale / 8192 and scale / 4096.

    Floating-point noise reaches some numbers and not others, and which ones depends on the secret sum (Mironov 2012,
    doi:10.1145/2382196.2382264). Here the noise is finer than the grid by 2**40 and more, so that every point of the
    grid within 8 standard deviations is reached from every sum, and the last bits, which would tell, are gone.
    The rounding uses no data (post-processing) and adds less than 1e-8 to the variance. It is a mitigation, not a
    proof: beyond 8.6 standard deviations no noise is drawn, and chances of grid points are right to rounding only.
    Sums of several draws (Holohan and Braghin 2021, arXiv:2107.10138) are another, at four times the cost.

    Args:
        noised: float64, exact values plus noise.
        scale: Standard deviation of the noise; 0 leaves the values as they are.
    """
    if scale == 0:
        return noised
    step = 2.0 ** (math.floor(math.log2(scale)) - 12)
    return (noised / step).round_().mul_(step)


def _uniform(count: int) -> Tensor:
    """Return float64[count] on (0, 1]; exact multiples of 2**-53."""
    words = torch.empty(count, dtype=torch.int64)
    stream = Cipher(algorithms.ChaCha20(key=os.urandom(32), nonce=os.urandom(16)), mode=None).encryptor()
    for part in torch.split(words, len(_ZEROS) // 8):  # in pieces that stay in the processor's cache
        stream.update_into(_ZEROS[: 8 * len(part)], part.numpy().view(np.uint8).data)
    return words.bitwise_and_(2**53 - 1).add_(1).double().mul_(2.0**-53)


_ZEROS = memoryview(bytes(2**18))

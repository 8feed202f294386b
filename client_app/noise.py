"""Randomness for privacy: ChaCha20 keyed by the operating system. No seed exists.

Neither NumPy's nor PyTorch's generators take part: PyTorch's CPU generator keeps 32 bits
of its seed, and two sites with one seed would add the same noise, which the coordinator
could subtract.
"""

import math
import os
from collections.abc import Iterator

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray
from torch import Tensor

_PIECE = 2**16
"""Draws that are made at once, so that they stay in the processor's cache; even."""
_ZEROS = memoryview(bytes(8 * _PIECE))


def secure_uniform(count: int) -> NDArray[np.float64]:
    """Return ``count`` independent draws, uniform on (0, 1], each from 53 random bits."""
    drawn = torch.empty(count, dtype=torch.float64)
    for _ in _uniform_pieces(drawn):
        pass
    return drawn.numpy()


def secure_normal(count: int) -> NDArray[np.float64]:
    """Return ``count`` independent standard normal draws (Box and Muller 1958).

    Guarantees:
        A fresh 256-bit key from the operating system for each call, so that no two calls,
        sites or restarts share noise. float64 throughout.
    """
    drawn = torch.empty(count + count % 2, dtype=torch.float64)
    for piece in _uniform_pieces(drawn):
        half = len(piece) // 2
        radius, angle = piece[:half].log_().mul_(-2.0).sqrt_(), piece[half:].mul_(2.0 * math.pi)
        other = angle.sin().mul_(radius)
        radius.mul_(angle.cos_())
        angle.copy_(other)
    return drawn[:count].numpy()


def noised(exact: Tensor, scale: float) -> Tensor:
    """Return float64 ``exact`` plus normal noise, rounded to multiples of a power of two.

    The power lies between scale / 8192 and scale / 4096. Floating-point noise reaches some numbers and not others, and
    which ones depends on the secret sum (Mironov 2012, doi:10.1145/2382196.2382264). Here the noise is finer than the
    grid by 2**40, so that every point of the grid within 8 standard deviations is reached from every sum, and the last
    bits, which would tell, are gone. The rounding uses no data (post-processing) and adds less than 1e-8 to the
    relative variance. It is a mitigation, not a proof: beyond 8.6 standard deviations no noise is drawn, and chances
    of grid points are right to rounding only. Sums of several draws (Holohan and Braghin 2021, arXiv:2107.10138) are
    another, at four times the cost.

    Args:
        exact: float32 or float64, on any device; the noise is drawn on the CPU.
        scale: Standard deviation of the noise; 0 leaves the values as they are.
    """
    if scale == 0:
        return exact.double()
    step = 2.0 ** (math.floor(math.log2(scale)) - 12)
    drawn = torch.from_numpy(secure_normal(exact.numel())).view_as(exact).mul_(scale / step)
    return drawn.to(exact.device).add_(exact.double(), alpha=1 / step).round_().mul_(step)


def _uniform_pieces(drawn: Tensor) -> Iterator[Tensor]:
    """Fill float64[N] with draws on (0, 1], exact multiples of 2**-53; yield it piece by piece."""
    words = torch.empty(min(len(drawn), _PIECE), dtype=torch.int64)
    stream = Cipher(algorithms.ChaCha20(key=os.urandom(32), nonce=os.urandom(16)), mode=None).encryptor()
    for piece in torch.split(drawn, _PIECE):
        part = words[: len(piece)]
        stream.update_into(_ZEROS[: 8 * len(piece)], part.numpy().view(np.uint8).data)
        piece.copy_(part.bitwise_and_(2**53 - 1).add_(1)).mul_(2.0**-53)
        yield piece


def noised_sums(exact: NDArray[np.float64], sd: float) -> NDArray[np.float64]:
    """Return ``noised`` counts or sums, of any shape; as they are where ``sd`` is 0."""
    return noised(torch.from_numpy(exact), sd).numpy()

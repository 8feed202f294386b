"""Randomness for privacy: ChaCha20 keyed by the operating system. No seed exists.

Neither NumPy's nor PyTorch's generators take part: PyTorch's CPU generator keeps 32 bits
of its seed, and two sites with one seed would add the same noise, which the coordinator
could subtract.
"""

import math
import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray


def secure_uniform(count: int) -> NDArray[np.float64]:
    """Return ``count`` independent draws, uniform on (0, 1], each from 53 random bits."""
    words = (_random_words(count) >> np.uint64(11)) + np.uint64(1)
    return words.astype(np.float64) * 2.0**-53


def secure_normal(count: int) -> NDArray[np.float64]:
    """Return ``count`` independent standard normal draws (Box and Muller 1958).

    Guarantees:
        A fresh 256-bit key from the operating system for each call, so that no two calls,
        sites or restarts share noise. float64 throughout; the floating-point caveat of
        Mironov (2012) remains and is stated in ``docs/privacy.md``.
    """
    pairs = (count + 1) // 2
    uniform = secure_uniform(2 * pairs)
    radius, angle = np.sqrt(-2.0 * np.log(uniform[:pairs])), 2.0 * np.pi * uniform[pairs:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def noise(shape: tuple[int, ...], sd: float) -> NDArray[np.float64]:
    """Return float64[shape] of independent normal draws of standard deviation ``sd``; zeros where that is 0."""
    return secure_normal(math.prod(shape)).reshape(shape) * sd if sd else np.zeros(shape)


def _random_words(count: int) -> NDArray[np.uint64]:
    cipher = Cipher(algorithms.ChaCha20(key=os.urandom(32), nonce=os.urandom(16)), mode=None)
    return np.frombuffer(cipher.encryptor().update(bytes(8 * count)), dtype=np.uint64)

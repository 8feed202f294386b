"""Parts of an example that are not words: patches of an image, and kinds of data."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedfm.explain.words import shares


def patches(images: Tensor, size: int) -> Tensor:
    """Return float32[B, U, D], the squares of a grid as units, row by row; D is size * size * channels.

    An image whose sides are no multiple of the size is continued by zeros to the right and below.

    Args:
        images: float32[B, H, W, C].
        size: Side of a patch in pixels; 1 or more.
    """
    batch, height, width, channels = images.shape
    rows, columns = _grid(height, width, size=size)
    whole = images.new_zeros(batch, rows * size, columns * size, channels)
    whole[:, :height, :width] = images
    squares = whole.view(batch, rows, size, columns, size, channels).transpose(2, 3)
    return squares.reshape(batch, rows * columns, size * size * channels)


def images_of(units: Tensor, *, height: int, width: int, size: int) -> Tensor:
    """Return float32[B, H, W, C], what ``patches`` made the units of.

    Args:
        units: float32[B, U, D].
        height: H in pixels.
        width: W in pixels.
        size: Side of a patch in pixels.
    """
    rows, columns = _grid(height, width, size=size)
    batch, channels = len(units), units.shape[-1] // size**2
    squares = units.view(batch, rows, columns, size, size, channels).transpose(2, 3)
    return squares.reshape(batch, rows * size, columns * size, channels)[:, :height, :width]


def modality_shares(credits_: NDArray[np.float64], modality_of_unit: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return float64[B, M]: the share of all credit that each kind of data holds; 0 without any credit.

    A share near 1 says that the model looks at one kind only.

    Args:
        credits_: float64[B, U].
        modality_of_unit: int64[U] number of a unit's kind, from 0; M is one more than the largest.

    Source: Parcalabescu and Frank 2023, MM-SHAP, arXiv:2212.08158, equation 3, for any credits.
    """
    kinds = np.arange(modality_of_unit.max(initial=-1) + 1)
    parts = np.array([shares(row) for row in credits_]).reshape(credits_.shape)
    held: NDArray[np.float64] = parts @ (modality_of_unit[:, None] == kinds).astype(np.float64)
    return held


def _grid(height: int, width: int, *, size: int) -> tuple[int, int]:
    """Return rows and columns of patches."""
    return -(-height // size), -(-width // size)

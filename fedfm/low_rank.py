"""Products of low-rank factors: names of the factors, and exact changes of basis. float64, free of torch.

An adapted layer has ``B`` (out, r) and ``A`` (r, in); ``B A`` times ``alpha / rank`` is added to its weight.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fedfm.arrays import Arrays

Matrix = NDArray[np.float64]

LORA_A, LORA_B = ".lora_A.weight", ".lora_B.weight"
"""Ends of the names of the factors of an adapted layer."""

RESIDUAL_A, RESIDUAL_B = ".residual_A.weight", ".residual_B.weight"
"""Ends of the names of the factors of what is added to an adapted layer's frozen weight, beside ``B A``."""

FROZEN = {"ffa_svd": "factor", "fedex": "residual"}
"""Combining rule to what its sites load and do not train: ``A``, or factors of a residual. Others change nothing."""

_EPSILON = float(np.finfo(np.float64).eps)


def adapted(names: Iterable[str], *, end: str = LORA_B) -> list[str]:
    """Return the adapted layers that have an array of this end, in order of their names."""
    return sorted(name.removesuffix(end) for name in names if name.endswith(end))


def is_residual(name: str) -> bool:
    """Say whether an array is a factor of a residual."""
    return name.endswith((RESIDUAL_A, RESIDUAL_B))


def refreshed(b: Matrix, a: Matrix) -> tuple[Matrix, Matrix]:
    """Return float64[out, r] and float64[r, in] of the same product, the second with orthonormal rows.

    ``A' = Q R``, so ``B A = (B R') Q'``, and the small ``B R' = U S V'`` gives ``B+ = U S`` and ``A+ = V' Q'``.

    Args:
        b: float64[out, r].
        a: float64[r, in].

    Guarantees:
        Exact up to rounding, also where B is zero or of lower rank: ``A+`` spans what ``A`` spans. The columns of
        ``B+`` are orthogonal, and their norms, the singular values, fall. Where r > in, both end in zeros.

    Source: FedSVD, Lee et al. 2025, arXiv:2505.12805.
    """
    q, r = np.linalg.qr(a.T)
    small = b @ r.T
    u, s, vt = _signed(*np.linalg.svd(small, full_matrices=len(small) < small.shape[1]))
    new_b, new_a = np.zeros_like(b), np.zeros_like(a)
    new_b[:, : len(s)], new_a[: len(vt)] = u * s, vt @ q.T
    return new_b, new_a


def truncated(product: Matrix, rank: int) -> tuple[Matrix, Matrix]:
    """Return factors float64[out, r] and float64[r, in] of the nearest matrix of rank r, largest parts first.

    Guarantees:
        For each k <= r the first k columns and rows are the nearest matrix of rank k, too. The rows of the second
        are orthonormal; where the product has fewer than r directions, both end in zeros.

    Source: Eckart and Young 1936; FlexLoRA, Bai et al. 2024, arXiv:2402.11505.
    """
    u, s, vt = _signed(*np.linalg.svd(product, full_matrices=False))
    kept = min(rank, len(s))
    b, a = np.zeros((len(product), rank)), np.zeros((rank, product.shape[1]))
    b[:, :kept], a[:kept] = u[:, :kept] * s[:kept], vt[:kept]
    return b, a


def factored(product: Matrix, *, terms: float = 0.0) -> tuple[Matrix, Matrix]:
    """Return factors float64[out, k] and float64[k, in] of the whole product, of equal norms.

    Args:
        product: float64[out, in].
        terms: Norms, together, of what the product is the sum of: where these nearly cancel, the rounding that is left
            is theirs, and not the product's.

    Guarantees:
        k is the rank of the product up to rounding of float64, at least 1 and at most the smaller of out and in.
    """
    u, s, vt = _signed(*np.linalg.svd(product, full_matrices=False))
    rank = max(1, int((s > max(s[0], terms) * max(product.shape) * _EPSILON).sum()))
    roots = np.sqrt(s[:rank])
    return u[:, :rank] * roots, roots[:, None] * vt[:rank]


def residual_of(frozen: Arrays, layer: str) -> Matrix | float:
    """Return float64[out, in], the product of a layer's residual factors; 0 where there are none."""
    if layer + RESIDUAL_B not in frozen:
        return 0.0
    product: Matrix = frozen[layer + RESIDUAL_B].astype(np.float64) @ frozen[layer + RESIDUAL_A].astype(np.float64)
    return product


def _signed(u: Matrix, s: Matrix, vt: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Make the largest entry of each right vector positive, so that every machine returns the same factors."""
    largest = np.abs(vt).argmax(axis=1)
    signs = np.where(vt[np.arange(len(vt)), largest] < 0, -1.0, 1.0)
    return u[:, : len(s)] * signs[: len(s)], s, vt * signs[:, None]

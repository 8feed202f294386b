"""Combiners that average the products ``B A`` of low-rank adapters, and not their factors.

With dW_k = B_k A_k - B A of site k they add ``sum c_k dW_k`` to ``B A``: for weights that sum to 1 that is the
average of the products. One site's update and one dense matrix for each adapted layer are in memory at a time.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedfm.arrays import Arrays
from fedfm.low_rank import (
    LORA_A,
    LORA_B,
    RESIDUAL_A,
    RESIDUAL_B,
    Matrix,
    adapted,
    factored,
    refreshed,
    residual_of,
    truncated,
)
from server_app.combining.received import Combined, Received, Update, combination

Factors = tuple[Matrix, Matrix]


def ffa_svd(received: Received) -> Combined:
    """Average B linearly, then turn the common A to orthonormal rows without changing the product.

    A stays within what its public draw spans; its rows come in the order of the singular values of ``B A``.

    Source: FedSVD, Lee et al. 2025, arXiv:2505.12805.
    """
    update = dict(combination(received, received.weights).update)
    frozen = dict(received.frozen)
    for layer in adapted(received.before):
        before = _wide(received.before[layer + LORA_B])
        b, a = refreshed(before + update[layer + LORA_B], _wide(received.frozen[layer + LORA_A]))
        update[layer + LORA_B] = b - before
        frozen[layer + LORA_A] = a.astype(np.float32)
    return Combined(update, None, frozen)


def flexlora(received: Received) -> Combined:
    """Average the products of the sites, and return the nearest ones of the study's rank.

    Factors come in the order of the singular values, so that a site of smaller rank takes the first columns of B
    and rows of A, which are the nearest product of that rank.

    Source: FlexLoRA, Bai et al. 2024, arXiv:2402.11505.
    """
    update = dict(combination(received, received.weights).update)
    products = {layer: b @ a for layer, (b, a) in _factors(received.before).items()}
    for coefficient, after in _sites(received):
        for layer, (b, a) in _factors(received.before).items():
            their_b, their_a = after[layer]
            products[layer] += coefficient * (their_b @ their_a - b @ a)
    for layer, (before_b, before_a) in _factors(received.before).items():
        b, a = truncated(products[layer], len(before_a))
        update[layer + LORA_B], update[layer + LORA_A] = b - before_b, a - before_a
    return Combined(update, None)


def fedex(received: Received) -> Combined:
    """Average B and A linearly, and add what the average of the products has beyond them to the frozen weights.

    With b_k and a_k the updates of site k and b, a their combination, ``sum c_k b_k a_k - b a`` is missing from the
    product of the averaged factors; for weights that sum to 1 it is ``sum c_k (B_k - B)(A_k - A)`` about the averages.
    It is added to what was missing before, and goes out as factors.

    Source: FedEx-LoRA, Singhal et al. 2025, arXiv:2410.09432.
    """
    averaged = combination(received, received.weights)
    layers = adapted(received.before)
    missing, terms = dict[str, Matrix](), dict[str, float]()
    for layer in layers:
        before = residual_of(received.frozen, layer)
        average = averaged.update[layer + LORA_B] @ averaged.update[layer + LORA_A]
        missing[layer], terms[layer] = before - average, float(np.linalg.norm(before) + np.linalg.norm(average))
    for coefficient, row in zip(received.weights.tolist(), received.updates.rows(), strict=True):
        moved = received.updates.named(row.astype(np.float64))
        for layer in layers:
            term = coefficient * (moved[layer + LORA_B] @ moved[layer + LORA_A])
            missing[layer], terms[layer] = missing[layer] + term, terms[layer] + float(np.linalg.norm(term))
    frozen: Arrays = {}
    for layer in layers:
        b, a = factored(missing[layer], terms=terms[layer])
        frozen[layer + RESIDUAL_B], frozen[layer + RESIDUAL_A] = b.astype(np.float32), a.astype(np.float32)
    return Combined(averaged.update, None, frozen)  # the frozen weights have changed, too: no linear combination


def _sites(received: Received) -> Iterator[tuple[float, dict[str, Factors]]]:
    """Yield the coefficient and the factors of each site after its training; one site is in memory at a time."""
    for coefficient, row in zip(received.weights.tolist(), received.updates.rows(), strict=True):
        moved = received.updates.named(row.astype(np.float64))
        yield coefficient, _factors({name: array + moved[name] for name, array in received.before.items()})


def _factors(arrays: Update | Arrays) -> dict[str, Factors]:
    return {layer: (_wide(arrays[layer + LORA_B]), _wide(arrays[layer + LORA_A])) for layer in adapted(arrays)}


def _wide(array: NDArray[np.float32] | Matrix) -> Matrix:
    return array.astype(np.float64)

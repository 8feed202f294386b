"""Whether the words that are credited are the words that count.

Credits that do not beat a random order explain nothing, however plausible they look.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedfm.examples import Example
from fedfm.explain.attribution import ROWS, Attribution, Method, attribute, refuse_hooks
from fedfm.model.classifier import Classifier, Inputs

BINS = (0.01, 0.05, 0.10, 0.20, 0.50)
"""Shares of the tokens that are deleted; the drop is averaged over them (DeYoung et al. 2020)."""

DOCUMENTS = 8
"""Documents that are explained at once; of similar length, so that little is padding."""


@dataclass(frozen=True)
class Faithfulness:
    """One number per document; sample-level, never leaves the hospital.

    Attributes:
        comprehensiveness: float64[N] in [-1, 1]: mean drop of the predicted class's probability when the most
            credited 1, 5, 10, 20 and 50 % of the tokens or columns are deleted.
        random_order: float64[N] in [-1, 1]: the same for a random order.
        completeness_error: float64[N], 0 or more: relative error of the credits' sum.
    """

    comprehensiveness: NDArray[np.float64]
    random_order: NDArray[np.float64]
    completeness_error: NDArray[np.float64]


def faithfulness(
    model: Classifier,
    examples: Sequence[Example],
    *,
    steps: int,
    rng: np.random.Generator,
    attribution: str = "integrated_gradients",
) -> Faithfulness:
    """Return how faithful the model's credits are, example by example, in the order of ``examples``.

    Special tokens are never deleted; other tokens keep their position. A document without any other
    token has nothing to delete, and its drops are 0.

    Args:
        model: Without Opacus's hooks.
        examples: Audit examples.
        steps: Points on the path of the attribution.
        rng: Draws the random orders, one per example.
        attribution: Name in ``ATTRIBUTIONS``.

    Raises:
        ModelError: Opacus's hooks are attached.

    Source: comprehensiveness, DeYoung et al. 2020 (ERASER), arXiv:1911.03429, equation 1.
    """
    refuse_hooks(model)
    seeds = rng.integers(2**63, size=len(examples))
    credited, random, error = (np.zeros(len(examples)) for _ in range(3))
    by_length = sorted(range(len(examples)), key=lambda i: len(examples[i].text or ""))
    for start in range(0, len(examples), DOCUMENTS):
        batch = by_length[start : start + DOCUMENTS]
        inputs = model.inputs([examples[i] for i in batch])
        explained = attribute(model, inputs, Method(attribution, steps))
        orders = [_credited_order(explained, inputs, row=row) for row in range(len(batch))]
        shuffled = [np.random.default_rng(seeds[i]).permutation(order) for i, order in zip(batch, orders, strict=True)]
        credited[batch] = _mean_drop(model, inputs, target=explained.target, orders=orders)
        random[batch] = _mean_drop(model, inputs, target=explained.target, orders=shuffled)
        if explained.completeness_error is not None:
            error[batch] = explained.completeness_error.cpu().numpy()
    return Faithfulness(comprehensiveness=credited, random_order=random, completeness_error=error)


def _credited_order(explained: Attribution, inputs: Inputs, *, row: int) -> NDArray[np.int64]:
    """Return the removable units of one example, most credited first; equal credits in reading order."""
    removable = np.flatnonzero(inputs.removable[row].cpu().numpy())
    credits_ = explained.credits[row].cpu().numpy()[removable]
    return removable[np.argsort(-credits_, kind="stable")]


@torch.no_grad()
def _mean_drop(
    model: Classifier, inputs: Inputs, *, target: Tensor, orders: list[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Return float64[B]: probability of the target minus the same after deletion, averaged over ``BINS``."""
    kept = inputs.present.repeat(len(BINS) + 1, 1)  # first all there is, then one block for each bin
    for block, share in enumerate(BINS, start=1):
        for row, order in enumerate(orders):
            kept[block * len(orders) + row, torch.from_numpy(order[: math.ceil(share * len(order))])] = False
    example = torch.arange(len(orders), device=target.device).repeat(len(BINS) + 1)
    batches = zip(torch.split(example, ROWS), torch.split(kept, ROWS), strict=True)
    logits = torch.cat([model.logits_from_inputs(inputs.values[rows], there) for rows, there in batches])
    probability = logits.double().softmax(-1).gather(1, target[example, None]).view(len(BINS) + 1, -1)
    drops: NDArray[np.float64] = (probability[0] - probability[1:].mean(0)).cpu().numpy()
    return drops

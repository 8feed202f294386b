"""Whether credits foresee what the model does, and stay where they are when the input hardly moves.

Dear next to deletion, so for a full audit on few documents: ``infidelity`` takes a pass through the model for each
perturbation, ``max_sensitivity`` a whole attribution.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedfm.explain.attribution import Attribution, Method, attribute
from fedfm.explain.deletion import words_of
from fedfm.explain.passes import logits_of
from fedfm.model.classifier import Classifier, Inputs

Figures = NDArray[np.float64]

PERTURBATIONS = 10
"""Perturbations of a document."""

RADIUS = 0.02
"""Largest change of each number of a unit for ``max_sensitivity``."""


def subsets(inputs: Inputs, seeds: Sequence[int], *, count: int = PERTURBATIONS) -> Tensor:
    """Return float32[count, B, U], 1 for the pieces of random words: of each size from one to all words alike.

    Args:
        inputs: B documents.
        seeds: One for each document, so that its subsets depend on no other document.
        count: Subsets of each document.
    """
    drawn = torch.zeros((count, *inputs.present.shape), dtype=torch.float32)
    for row, seed in enumerate(seeds):
        rng, words = np.random.default_rng(seed), words_of(inputs, row)
        units, removable = inputs.words[row].cpu().numpy(), inputs.removable[row].cpu().numpy()
        for subset in drawn[:, row] if len(words) else ():
            chosen = rng.choice(words, rng.integers(1, len(words) + 1), replace=False)
            subset[torch.from_numpy(np.isin(units, chosen) & removable)] = 1.0
    return drawn.to(inputs.values.device)


def infidelity(
    model: Classifier, inputs: Inputs, attributed: Attribution, perturbations: Tensor, *, scaled: bool = False
) -> Figures:
    """Return float64[B], 0 or more: mean squared error of credits as a forecast of the target's logit.

    A perturbation says for each unit how far it goes to its baseline, 1 all the way; credits foretell that the logit
    falls by the sum of credits times that.

    Args:
        model: Without hooks.
        inputs: B documents.
        attributed: Their credits.
        perturbations: float32[K, B, U], for example of ``subsets``.
        scaled: Credits are first multiplied, document by document, by the number that suits them best: methods that
            credit on another scale than the logit's are compared so.

    Source: Yeh et al. 2019, arXiv:1901.09392, definition 2.1; the scaling, section 5.
    """
    count = len(perturbations)
    example = torch.arange(len(inputs.present), device=perturbations.device).repeat(count + 1)
    moved = torch.cat([torch.zeros_like(perturbations[:1]), perturbations]).flatten(0, 1)
    path = inputs.values - inputs.baseline
    logits = logits_of(
        model,
        lambda rows: inputs.values[example[rows]] - moved[rows].unsqueeze(-1) * path[example[rows]],
        inputs.present[example],
    )
    reached = logits.gather(1, attributed.target[example, None]).view(count + 1, -1).double()
    fell, foretold = reached[0] - reached[1:], (perturbations * attributed.credits).sum(-1, dtype=torch.float64)
    if scaled:
        squares = foretold.square().sum(0)
        foretold = foretold * torch.where(squares == 0, 0.0, (foretold * fell).sum(0) / squares)
    found: Figures = (foretold - fell).square().mean(0).cpu().numpy()
    return found


def movements(inputs: Inputs, seeds: Sequence[int], *, radius: float = RADIUS, count: int = PERTURBATIONS) -> Tensor:
    """Return float32[count, B, U, D] uniform in ±radius, 0 for units that must stay; by a seed for each document."""
    drawn = torch.zeros((count, *inputs.values.shape), dtype=torch.float32)
    for row, seed in enumerate(seeds):
        plain = inputs.removable[row].cpu()
        numbers = (count, int(plain.sum()), inputs.values.shape[-1])
        drawn[:, row, plain] = torch.from_numpy(
            np.random.default_rng(seed).uniform(-radius, radius, numbers).astype(np.float32)
        )
    return drawn.to(inputs.values.device)


def max_sensitivity(model: Classifier, inputs: Inputs, *, method: Method, by: Tensor) -> Figures:
    """Return float64[B], 0 or more: the farthest that credits move when the units do, relative to their length.

    Where all credits are 0, the distance itself.

    Args:
        model: Without hooks.
        inputs: B documents.
        method: How words are credited.
        by: float32[K, B, U, D] what is added to the units, for example of ``movements``.

    Raises:
        ModelError: As ``attribute``.

    Source: Yeh et al. 2019, arXiv:1901.09392, definition 3.1, for the length of the credits as in captum.
    """
    before = attribute(model, inputs, method).credits
    length = before.norm(dim=1)
    length = torch.where(length == 0, 1.0, length)
    farthest = torch.zeros_like(length)
    for step in by:
        after = attribute(model, replace(inputs, values=inputs.values + step), method).credits
        farthest = torch.maximum(farthest, (after - before).norm(dim=1) / length)
    found: Figures = farthest.double().cpu().numpy()
    return found

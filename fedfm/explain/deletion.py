"""Whether the words that are credited are the words that count: what happens to the answer without them.

Credits that do not beat a random order explain nothing, however plausible they look. What is deleted is a word with
all its pieces, or a column; what stays keeps its position, and special tokens always stay.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedfm.explain.passes import logits_of
from fedfm.model.classifier import Classifier, Inputs

Figures = NDArray[np.float64]
Order = NDArray[np.int64]
"""Words of one document, places in its ``Inputs.names``, in which they are deleted."""

BINS = (0.01, 0.05, 0.10, 0.20, 0.50)
"""Shares of the words that are deleted, at least one word; what follows is averaged over them."""


@dataclass(frozen=True)
class Deleted:
    """What deletion does to B documents, each number in [-1, 1]; 0 for a document without any word.

    Attributes:
        comprehensiveness: float64[B] mean drop of the predicted class's probability without the first words.
        random_order: float64[B] the same for the paired order.
        sufficiency: float64[B] mean drop where only the first words are left; low where they suffice.
    """

    comprehensiveness: Figures
    random_order: Figures
    sufficiency: Figures


def deletions(model: Classifier, inputs: Inputs, target: Tensor, orders: Sequence[Order]) -> tuple[Figures, Figures]:
    """Return comprehensiveness and sufficiency, float64[B] each in [-1, 1]; 0 for a document without any word.

    Args:
        model: Reads whole documents, so no step of training may be under way.
        inputs: B documents.
        target: int64[B] the classes whose probabilities are looked at.
        orders: For each document all its words, the most credited first.

    Source: DeYoung et al. 2020 (ERASER), arXiv:1911.03429, equations 1 and 2, averaged over ``BINS``.
    """
    found = drops(model, inputs, target, torch.cat([_without(inputs, orders), _alone(inputs, orders)]))
    return found[: len(BINS)].mean(0), found[len(BINS) :].mean(0)


def paired_deletions(
    model: Classifier, inputs: Inputs, target: Tensor, *, orders: Sequence[Order], random: Sequence[Order]
) -> Deleted:
    """Return ``deletions``, and the comprehensiveness of a random order of the same documents beside it.

    All go through the model together, which pads least.
    """
    kept = torch.cat([_without(inputs, orders), _without(inputs, random), _alone(inputs, orders)])
    credited, shuffled, alone = drops(model, inputs, target, kept).reshape(3, len(BINS), len(orders)).mean(1)
    return Deleted(comprehensiveness=credited, random_order=shuffled, sufficiency=alone)


def credited_order(inputs: Inputs, row: int, credits_: Figures) -> Order:
    """Return the words of one document that can be deleted, most credited first; equal credits in reading order."""
    there = words_of(inputs, row)
    return there[np.argsort(-credits_[there], kind="stable")]


def random_order(inputs: Inputs, row: int, *, seed: int) -> Order:
    """Return the words of one document that can be deleted in an order drawn from a seed of its own."""
    return np.random.default_rng(seed).permutation(words_of(inputs, row))


def words_of(inputs: Inputs, row: int) -> Order:
    """Return the words of one document that the model reads, places in ``Inputs.names`` in reading order."""
    return np.unique(inputs.words[row][inputs.removable[row]].cpu().numpy())


def leave_one_out(model: Classifier, inputs: Inputs, target: Tensor) -> list[Figures]:
    """Return for each document float64[W]: drop of the target's probability when a word alone is deleted."""
    counts = [len(names) for names in inputs.names]
    word = torch.arange(max(counts, default=0), device=inputs.words.device)
    found = drops(model, inputs, target, inputs.present & (inputs.words != word[:, None, None]))
    return [found[:count, row] for row, count in enumerate(counts)]


def normalised(model: Classifier, inputs: Inputs, target: Tensor, comprehensiveness: Figures) -> Figures:
    """Return float64[B] in [-1, 1]: comprehensiveness as a share of what the order by ``leave_one_out`` reaches.

    For comparing models: a sure model and a doubtful one differ in comprehensiveness with equally good reasons.
    0 where no single word helps the answer. Costs a pass through the model for each word.
    """
    effects = leave_one_out(model, inputs, target)
    best, _ = deletions(model, inputs, target, [credited_order(inputs, i, effect) for i, effect in enumerate(effects)])
    share = np.divide(comprehensiveness, best, out=np.zeros_like(best), where=best > 0)
    return np.clip(share, -1.0, 1.0)


def drops(model: Classifier, inputs: Inputs, target: Tensor, kept: Tensor) -> Figures:
    """Return float64[K, B]: probability of the target minus the same where only ``kept`` units are present.

    Args:
        model: As in ``deletions``.
        inputs: B documents.
        target: int64[B] classes.
        kept: bool[K, B, U] K subsets of each document's present units.

    Guarantees:
        Equal subsets of a document are computed once, and exactly 0 where nothing is deleted.
    """
    example = torch.arange(len(target), device=kept.device).repeat(len(kept) + 1)
    wanted = torch.cat([inputs.present, kept.flatten(0, 1)])
    rows, place = torch.unique(torch.cat([example[:, None], wanted], dim=1), dim=0, return_inverse=True)
    example, there = rows[:, 0], rows[:, 1:].bool()
    logits = logits_of(model, lambda some: inputs.values[example[some]], there).double()
    probability = logits.softmax(-1).gather(1, target[example, None])[place].view(len(kept) + 1, len(target))
    found: Figures = (probability[0] - probability[1:]).cpu().numpy()
    return found


def _without(inputs: Inputs, orders: Sequence[Order]) -> Tensor:
    """Return bool[len(BINS), B, U]: what is left without the first words of each bin."""
    return inputs.present & ~_first(inputs, orders)


def _alone(inputs: Inputs, orders: Sequence[Order]) -> Tensor:
    """Return bool[len(BINS), B, U]: the first words of each bin, and what always stays."""
    return inputs.present & (~inputs.removable | _first(inputs, orders))


def _first(inputs: Inputs, orders: Sequence[Order]) -> Tensor:
    """Return bool[len(BINS), B, U]: true for the pieces of the first words of each bin."""
    device = inputs.words.device
    places = torch.zeros_like(inputs.words)
    for row, order in enumerate(orders):
        place = torch.full((len(inputs.names[row]),), len(order), device=device)
        place[torch.from_numpy(order).to(device)] = torch.arange(len(order), device=device)
        places[row, inputs.removable[row]] = place[inputs.words[row][inputs.removable[row]]]
    cuts = torch.tensor([[math.ceil(share * len(order)) for order in orders] for share in BINS], device=device)
    return inputs.removable & (places < cuts[:, :, None])

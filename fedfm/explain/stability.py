"""Whether the reasons stay when nothing that matters changes: a little noise, or another training."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedfm.examples import Example
from fedfm.explain.agreement import spearman, top_overlap
from fedfm.explain.attribution import Method, attribute
from fedfm.explain.words import Credits, word_credits
from fedfm.model.classifier import Classifier, Inputs


@dataclass(frozen=True)
class Stability:
    """How alike the credits of N documents are before and after; sample-level.

    Attributes:
        correlation: float64[N] Spearman's rank correlation of the credits of words, in [-1, 1].
        overlap: float64[N] Jaccard index of the most credited words, in [0, 1].
        is_defined: bool[N] false where a document has too few words or the same credit for all; both are 0 there.
    """

    correlation: NDArray[np.float64]
    overlap: NDArray[np.float64]
    is_defined: NDArray[np.bool_]


def stability_under_noise(
    model: Classifier,
    examples: Sequence[Example],
    *,
    method: Method,
    radius: float,
    top: int,
    rng: np.random.Generator,
) -> Stability:
    """Return how alike credits are with and without noise in what the model reads.

    Args:
        model: Without the hooks of a private step.
        examples: N of them.
        method: How words are credited. Both times it is the class that is predicted then.
        radius: Length of a unit's noise relative to the unit, 0.02 for example; special tokens have none.
        top: How many of the most credited words are compared.
        rng: Draws the noise, of each document for itself.
    """
    seeds = rng.integers(2**63, size=len(examples))

    def noisy(inputs: Inputs, place: int) -> Inputs:
        values, units = inputs.values.clone(), inputs.removable
        own = values[units]
        drawn = np.random.default_rng(seeds[place]).normal(size=tuple(own.shape))
        noise = torch.from_numpy(drawn).to(own)
        noise = noise / noise.norm(dim=-1, keepdim=True)
        values[units] = own + radius * own.norm(dim=-1, keepdim=True) * noise
        return dataclasses.replace(inputs, values=values)

    plain = _credits(model, examples, method=method)
    return _alike(plain, _credits(model, examples, method=method, change=noisy), top=top)


def stability_between(
    model: Classifier, other: Classifier, *, examples: Sequence[Example], method: Method, top: int
) -> Stability:
    """Return how alike the credits of two models are, each for the class that it predicts.

    Args:
        model: One, without the hooks of a private step.
        other: The other, likewise; it reads the same words.
        examples: N of them.
        method: How words are credited.
        top: How many of the most credited words are compared.
    """
    first, second = (_credits(each, examples, method=method) for each in (model, other))
    return _alike(first, second, top=top)


def _credits(
    model: Classifier,
    examples: Sequence[Example],
    *,
    method: Method,
    change: Callable[[Inputs, int], Inputs] | None = None,
) -> list[Credits]:
    """Return the credits of each document's words, in the order of the examples."""
    found = []
    for place, example in enumerate(examples):
        inputs = model.inputs([example], baseline=method.baseline)
        if change is not None:
            inputs = change(inputs, place)
        found.append(word_credits(attribute(model, inputs, method), inputs, 0))
    return found


def _alike(before: Sequence[Credits], after: Sequence[Credits], *, top: int) -> Stability:
    pairs = list(zip(before, after, strict=True))
    correlation = [spearman(a, b) for a, b in pairs]
    overlap = [top_overlap(a, b, top) for a, b in pairs]
    is_defined = np.array([None not in found for found in zip(correlation, overlap, strict=True)], dtype=np.bool_)
    one, two = (np.array([value or 0.0 for value in found]) for found in (correlation, overlap))
    return Stability(one * is_defined, two * is_defined, is_defined)

"""Whether credits are about the model at all: they must change when its parameters are drawn anew.

A method that credits the same words whatever the head says does not explain the answer, however faithful it looks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedfm.examples import Example
from fedfm.explain.agreement import spearman
from fedfm.explain.attribution import Method
from fedfm.explain.deletion import words_of
from fedfm.explain.documents import Explained, explained
from fedfm.model.classifier import Classifier
from fedfm.model.draws import normal
from fedfm.parameters import public_name

Figures = NDArray[np.float64]


def rank_correlation_after(
    model: Classifier,
    examples: Sequence[Example],
    *,
    method: Method,
    parts: str,
    seed: int,
    before: Sequence[Figures] | None = None,
) -> Figures:
    """Return float64[N] in [-1, 1]: rank correlation of the size of words' credits before and after.

    Near 1 means that credits do not depend on what was drawn. Each time the class is explained that the model then
    predicts. A document whose credits are all of one size, before or after, or with less than three words, has no
    ranks to compare, and counts as 0: such credits hold nothing that could be lost, and comprehensiveness says so.

    Args:
        model: Without hooks; its parameters are the same afterwards, bit by bit.
        examples: N documents.
        method: How words are credited.
        parts: Name in ``PARTS``.
        seed: Of the draws.
        before: What ``sizes`` returned of the same, where that is known.

    Raises:
        ModelError: As ``attribute``.

    Source: Adebayo et al. 2018, arXiv:1810.03292, section 3.
    """
    before = sizes(model, examples, method=method) if before is None else before
    with drawn_anew(model, parts, seed=seed):
        after = sizes(model, examples, method=method)
    return np.array([spearman(one, other) or 0.0 for one, other in zip(before, after, strict=True)])


def sizes(model: Classifier, examples: Sequence[Example], *, method: Method) -> list[Figures]:
    """Return for each document the absolute credits of the words that the model reads, in reading order."""
    return [sizes_of(one) for one in explained(model, examples, method)]


def sizes_of(one: Explained) -> Figures:
    """Return the absolute credits of the words of one document that the model reads, in reading order."""
    return np.abs(one.credits[words_of(one.inputs, 0)])


@contextmanager
def drawn_anew(model: Classifier, parts: str, *, seed: int) -> Iterator[None]:
    """Replace parameters by normal draws of their own mean and standard deviation; put them back in the end.

    A parameter whose numbers are all alike, as a bias of zeros, stays.

    Args:
        model: Is back bit by bit afterwards, also after an error.
        parts: Name in ``PARTS``.
        seed: Equal seeds draw equal parameters, on every machine.
    """
    chosen = {name: parameter for name, parameter in model.named_parameters() if PARTS[parts](name, parameter)}
    kept = {name: parameter.detach().clone() for name, parameter in chosen.items()}
    try:
        with torch.no_grad():
            for name, parameter in chosen.items():
                mean, sd = parameter.double().mean().item(), parameter.double().std(correction=0).item()
                # A name of its own: by the parameter's it would be the first head again, if the seed is the study's.
                drawn = normal(seed, f"anew/{public_name(name)}", shape=tuple(parameter.shape), sd=sd)
                parameter.copy_(mean + drawn)
        yield
    finally:
        with torch.no_grad():
            for name, parameter in chosen.items():
                parameter.copy_(kept[name])


def _is_head(name: str, _parameter: nn.Parameter) -> bool:
    return name.startswith("head.")


PARTS: Mapping[str, Callable[[str, nn.Parameter], bool]] = {
    "head": _is_head,
    "adapters": lambda name, parameter: parameter.requires_grad or _is_head(name, parameter),
    "all": lambda _name, _parameter: True,
}
"""Name to which parameters are drawn anew: the head; all that are trained, with the head; every one."""

"""Documents explained one by one, their credits by word."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedfm.examples import Example
from fedfm.explain.attribution import Attribution, Method, attribute
from fedfm.explain.guard import refuse_hooks
from fedfm.explain.words import word_credits
from fedfm.model.classifier import Classifier, Inputs

TOGETHER = 1
"""Documents that are explained at once. Of several, the last digits of one's logits would depend on who is beside it,
and an answer near a tie with them: one patient could move the figures of others, which no noise is made for."""


@dataclass(frozen=True)
class Explained:
    """Some documents with their credits; sample-level.

    Attributes:
        places: Where these B documents stand among those asked for.
        inputs: As the model reads them.
        attributed: Credits of their units.
        credits: For each float64[W] the credits of its words, finite.
    """

    places: list[int]
    inputs: Inputs
    attributed: Attribution
    credits: list[NDArray[np.float64]]


def explained(model: Classifier, examples: Sequence[Example], method: Method) -> Iterator[Explained]:
    """Explain all documents, ``TOGETHER`` at a time.

    Raises:
        ModelError: As ``attribute``.
    """
    refuse_hooks(model)  # before anything is asked of it
    by_length = sorted(range(len(examples)), key=lambda i: len(examples[i].text or ""))
    for start in range(0, len(examples), TOGETHER):
        places = by_length[start : start + TOGETHER]
        inputs = model.inputs([examples[i] for i in places], baseline=method.baseline)
        attributed = attribute(model, inputs, method)
        words = [word_credits(attributed, inputs, row) for row in range(len(places))]
        yield Explained(places, inputs, attributed, words)

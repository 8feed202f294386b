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


@dataclass(frozen=True)
class Explained:
    """One document with its credits; sample-level.

    Attributes:
        inputs: As the model reads it, a batch of one.
        attributed: Credits of its units.
        credits: float64[W] the credits of its words, finite.
    """

    inputs: Inputs
    attributed: Attribution
    credits: NDArray[np.float64]

    @property
    def names(self) -> tuple[str, ...]:
        """The W words that the model reads, or its columns."""
        return self.inputs.names[0]


def explained(model: Classifier, examples: Sequence[Example], method: Method) -> Iterator[Explained]:
    """Explain each document by itself, in order.

    Of several together, the last digits of one's logits would depend on who is beside it, and an answer near a tie with
    them: one patient could move the figures of others, which no noise is made for.

    Raises:
        ModelError: As ``attribute``.
    """
    refuse_hooks(model)  # before anything is asked of it
    for example in examples:
        inputs = model.inputs([example], baseline=method.baseline)
        attributed = attribute(model, inputs, method)
        yield Explained(inputs, attributed, word_credits(attributed, inputs, 0))

"""What every model of the federation can do: a frozen part run once, a trainable part run in each step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedfm.config.study import Adapter, Model, Task
from fedfm.examples import Example
from fedfm.model.standardization import Standardization


@dataclass(frozen=True)
class Recipe:
    """What a classifier is built from; equal recipes give equal models at every site.

    Attributes:
        model: The distilled starting point.
        adapter: Which parameters are trained.
        task: What is predicted, from what.
        seed: Public seed of the first head and of the frozen LoRA factor.
        standardize: The study's ``standardize.method``.
    """

    model: Model
    adapter: Adapter
    task: Task
    seed: int
    standardize: str = "reference"


@dataclass(frozen=True)
class Inputs:
    """A batch as explanations see it: U units, tokens or columns, each a vector of D numbers.

    Attributes:
        values: float32[B, U, D] the units as the model reads them.
        baseline: float32[B, U, D] the units saying nothing; equals ``values`` where a unit must stay.
        present: bool[B, U] false for padding.
        removable: bool[B, U] units that may be credited and deleted; false for padding and special tokens.
        words: int64[B, U] which entry of ``names`` a unit is a piece of; -1 where it is of none.
        names: For each example the words that the model reads, or its columns; sample-level, like all here.
    """

    values: Tensor
    baseline: Tensor
    present: Tensor
    removable: Tensor
    words: Tensor
    names: tuple[tuple[str, ...], ...]


class Classifier(nn.Module, ABC):
    """A classifier whose frozen part runs once per example and whose trainable part runs in every step.

    *Guarantees* In training mode without dropout; float32; no example's logits depend on another
    example, so that each has a gradient of its own.

    Attributes:
        recipe: What it was built from.
        labels: C, the number of classes.
        head: The last linear layer.
        standard: What columns, or the states that enter the head, are centred and scaled by.
    """

    head: nn.Linear
    standard: Standardization

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.labels = len(recipe.task.labels)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.head.weight.device

    @abstractmethod
    def encode(self, examples: Sequence[Example]) -> list[Tensor]:
        """Run the frozen part once per example, without gradients; one CPU tensor each, in order.

        *Guarantees* Deterministic, and independent of which examples come together up to rounding (about 1e-6).

        Raises:
            DataError: An example lacks what the model reads.
        """

    def unstandardized(self, states: Sequence[Tensor]) -> Tensor:
        """Return what ``standard`` is applied to, from what ``encode`` returned; one row for each of B >= 1 states."""
        return self.features(*self.gather(states))

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """Return float32[B, C] logits from what ``encode`` returned; float32[0, C] for no states."""
        if not states:
            return self.head.weight.new_zeros((0, self.labels))
        return self.classify(*self.gather(states))

    @abstractmethod
    def gather(self, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the states as tensors of first dimension B >= 1 on the model's device; pads to the longest."""

    @abstractmethod
    def features(self, *gathered: Tensor) -> Tensor:
        """Return what ``standard`` is applied to, from what ``gather`` returned; one row for each example."""

    @abstractmethod
    def classify(self, *gathered: Tensor) -> Tensor:
        """Return float32[B, C] logits from what ``gather`` returned; no example's row depends on another's."""

    @abstractmethod
    def inputs(self, examples: Sequence[Example], *, baseline: str = "pad") -> Inputs:
        """Return the examples as units that can be credited, on the model's device.

        Args:
            examples: B of them.
            baseline: The study's ``explainability.baseline``; columns have one of their own.
        """

    @abstractmethod
    def logits_from_inputs(self, values: Tensor, present: Tensor) -> Tensor:
        """Return float32[B, C] logits through the whole model, frozen part included.

        Args:
            values: float32[B, U, D], as in ``Inputs``.
            present: bool[B, U]; a unit that is not present is as if deleted, others keep their position.
        """

    @abstractmethod
    def drawn(self, count: int, units: int) -> Tensor:
        """Return float32[count, U, D] examples drawn at random from what is public, never from a patient's.

        Args:
            count: Of how many.
            units: U, at most as many as an example has.

        *Guarantees* Fixed by the study's seed; of more or fewer units the first are the same.
        """

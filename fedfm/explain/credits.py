"""What is asked of a method that credits units, and what it answers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedfm.explain.guard import refuse_hooks
from fedfm.model.classifier import Classifier, Inputs

ROWS = 32
"""Rows that go through the model at once: points on paths, or examples with something removed."""


@dataclass(frozen=True)
class Method:
    """How words are credited.

    Attributes:
        name: Key of ``ATTRIBUTIONS``.
        steps: Points on a path, or draws, for the methods that have some; at least 1.
        baseline: The study's ``explainability.baseline``, with which the inputs were made; this is for the record.
        references: What expected gradients compare with in place of public draws. Only examples that are public:
            with a patient's among them the figures of one patient would tell of another.
    """

    name: str = "integrated_gradients"
    steps: int = 10
    baseline: str = "pad"
    references: Inputs | None = None


@dataclass(frozen=True)
class Attribution:
    """Credits of a batch of examples. Sample-level: never leaves the hospital.

    Attributes:
        target: int64[B] the predicted class, which is explained.
        credits: float32[B, U] share of each unit in the target's logit; 0 for units that must stay.
        completeness_error: float32[B] ``|sum of credits - difference| / |difference|``, where the difference
            is the target's logit minus that of the baseline; 0 or more, 0 is exact, infinite where there is no
            difference and yet a sum. None where credits need not sum to it.
    """

    target: Tensor
    credits: Tensor
    completeness_error: Tensor | None


@torch.no_grad()
def predicted(model: Classifier, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Return int64[B] the predicted classes, the first of equals, and float32[B] their logits.

    Every method begins here, so that none that is called by itself misses the guard.

    Raises:
        ModelError: Hooks are attached.
    """
    refuse_hooks(model)
    logits = model.logits_from_inputs(inputs.values, inputs.present)
    target = logits.argmax(dim=1)
    return target, logits.gather(1, target[:, None]).squeeze(1)

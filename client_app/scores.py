"""What the model says of a cohort, and whose each example is: what counts and losses are made of."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client_app.training import Cohort, by_length
from fedfm.config.study import Study
from fedfm.examples import Example
from fedfm.model.classifier import Classifier


def logits_of(model: Classifier, cohort: Cohort, micro_batch: int, classes: int) -> Tensor:
    """Return float64[N, C] on the CPU, in the order of the cohort."""
    found = torch.zeros((len(cohort.states), classes), dtype=torch.float64)
    with torch.no_grad():
        for chosen in by_length(cohort.states, micro_batch):
            found[chosen] = model([cohort.states[i] for i in chosen]).double().cpu()
    return found


def probabilities_of(logits: Tensor) -> NDArray[np.float64]:
    """Return float64[N, C]; what cannot be computed is undecided, so that no patient ends the evaluation for all."""
    found = logits.softmax(dim=1).numpy()
    return np.where(np.isfinite(found).all(axis=1, keepdims=True), found, 1 / found.shape[1])


def owners_of(examples: Sequence[Example], *, by_record: bool) -> list[str]:
    """Return the unit of privacy that each example is of: its patient, or itself."""
    return [str(index) if by_record else example.patient for index, example in enumerate(examples)]


def positive_of(study: Study) -> int:
    """Return the index of the class whose probability is the score of a two-class task."""
    classes = study.task.labels
    return classes.index(study.task.positive) if study.task.positive else len(classes) - 1

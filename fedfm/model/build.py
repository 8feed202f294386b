"""From a study's settings to a classifier that is ready to train."""

from collections.abc import Mapping
from types import MappingProxyType

import torch

from fedfm.config.study import Adapter, Model, Task
from fedfm.model.adapters import ADAPTERS
from fedfm.model.backbone import BACKBONES
from fedfm.model.classifier import Classifier, Recipe

NO_COPIES: Mapping[str, str] = MappingProxyType({})


def build_model(
    model: Model, adapter: Adapter, task: Task, *, seed: int, weights: Mapping[str, str] = NO_COPIES
) -> Classifier:
    """Return the classifier of a study: on the CPU, float32, in training mode, without dropout.

    Args:
        model: The distilled starting point.
        adapter: Which parameters are trained.
        task: What is predicted, from what.
        seed: Public seed of the head and of LoRA's A.
        weights: SHA-256 to a local folder that holds these weights; tried before the study's source.

    Returns:
        A classifier in which exactly the adapter's parameters require gradients.

    Raises:
        ModelError: The weights cannot be had, or the settings do not fit each other.

    *Guarantees* Equal arguments and weights give equal parameters, bit by bit, on every machine; torch's
    global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):  # torch and PEFT draw starting values that are overwritten here
        classifier = BACKBONES[model.backbone](Recipe(model, adapter, task, seed), weights)
        classifier.requires_grad_(False)
        ADAPTERS[adapter.method](classifier)
    return classifier.train()

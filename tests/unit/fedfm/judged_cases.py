"""Models and documents whose reasons are judged: some words are of several pieces, some documents of none."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from fedfm.config.study import Adapter, Column, Model, Task
from fedfm.examples import Example
from fedfm.explain.attribution import Attribution, Method, integrated_gradients
from fedfm.explain.words import word_credits
from fedfm.model.build import build_model
from fedfm.model.classifier import Classifier, Inputs
from fedfm.parameters import load_trainable
from tests.unit.fedfm.model_cases import shaken

WORDS = ["patient", "was", "stable", "sepsis", "fever", "zyx", "ward", "night", "the", "tachycardic"]
"""Two of them are no words of the tiny model, and are read in pieces."""


def notes(count: int, *, seed: int, longest: int = 20) -> list[Example]:
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(0, longest))) for _ in range(count)]
    return [Example(f"p{i}", 0, text=text, groups={"sex": "fm"[i % 2]}) for i, text in enumerate(texts)]


def text_model(*, method: str = "lora", labels: Sequence[str] = ("well", "ill")) -> Classifier:
    task = Task(inputs="text", labels=list(labels))
    return shaken(build_model(Model(source="random"), Adapter(method=method, rank=4), task, seed=1))


def columns_model(weights: Sequence[float], *, positive: str = "") -> Classifier:
    """Logistic regression whose logits of "yes" and "no" differ by the weighted sum of the scaled columns."""
    columns = [Column(f"c{i}", -1, 1) for i in range(len(weights))]
    task = Task(inputs="columns", labels=["no", "yes"], columns=columns, positive=positive)
    model = build_model(Model(backbone="tabular", source="none"), Adapter(method="full"), task, seed=1)
    weight = np.zeros((2, 2 * len(weights)), np.float32)
    weight[1, : len(weights)] = np.array(weights) / 2
    weight[0] = -weight[1]
    load_trainable(model, {"head.weight": weight, "head.bias": np.zeros(2, np.float32)})
    return model


def rows(count: int, *, seed: int, columns: int) -> list[Example]:
    rng = np.random.default_rng(seed)
    return [Example(str(i), 1, columns=tuple(rng.uniform(-1, 1, columns))) for i in range(count)]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def random_credits(model: Classifier, inputs: Inputs, method: Method) -> Attribution:
    """A planted fault: credits that are drawn."""
    real = integrated_gradients(model, inputs, method)
    seed = (
        int(1e6 * inputs.values.double().abs().sum().item()) % 2**31
    )  # of the documents, so that it is another for each
    drawn = torch.rand(real.credits.shape, generator=torch.Generator().manual_seed(seed))
    return Attribution(real.target, drawn * inputs.removable, real.completeness_error)


def credits_of(model: Classifier, inputs: Inputs) -> tuple[torch.Tensor, list[np.ndarray]]:
    """Return the predicted classes and each document's credits by word."""
    found = integrated_gradients(model, inputs, Method())
    return found.target, [word_credits(found, inputs, row) for row in range(len(inputs.names))]

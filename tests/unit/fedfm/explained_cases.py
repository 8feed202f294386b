"""Models to explain, and documents of every awkward kind."""

import numpy as np

from fedfm.config.coherence.attribution import OF_TEXT
from fedfm.config.study import Adapter, Column, Model, Task
from fedfm.examples import Example
from fedfm.explain.attribution import ATTRIBUTIONS
from fedfm.model.build import build_model
from fedfm.model.classifier import Classifier
from fedfm.parameters import load_trainable, trainable

TEXT = Task(inputs="text", labels=["well", "ill", "dead"])
COLUMNS = Task(inputs="columns", labels=["no", "yes"], columns=[Column(name, 0, 10) for name in "abcd"])
NOTES = [
    Example("p1", 0, text="Patient was stable overnight, discharged home."),
    Example("p2", 1, text="sepsis"),
    Example("p3", 2, text="fever and cough after surgery; oxygen, fluid, monitor until morning"),
    Example("p4", 2, text=""),
]
LONG = Example("p5", 1, text="worse " * 40 + "zyxwv " * 40)
"""More than the window of ``text_model`` holds; it ends within a word."""
ROWS = [Example("p1", 0, columns=(1.0, 9.0, float("nan"), 5.0)), Example("p2", 1, columns=(10.0, 2.0, 3.0, 4.0))]

CASES = [("text", name) for name in ATTRIBUTIONS] + [("columns", name) for name in ATTRIBUTIONS if name not in OF_TEXT]
"""Every method with every kind of model that a study may explain by it."""


def shaken(model: Classifier, *, by: float = 0.3) -> Classifier:
    """Move every trained parameter away from its start."""
    rng = np.random.default_rng(0)
    moved = {
        name: array + rng.normal(0, by, array.shape).astype(np.float32) for name, array in trainable(model).items()
    }
    load_trainable(model, moved)
    return model


def text_model(*, method: str = "lora") -> Classifier:
    model = Model(source="random", max_tokens=64)
    return shaken(build_model(model, Adapter(method=method, rank=4, modules=["query", "key", "value"]), TEXT, seed=1))


def tabular_model(hidden: list[int]) -> Classifier:
    model = Model(backbone="tabular", source="none", hidden=hidden)
    return shaken(build_model(model, Adapter(method="full"), COLUMNS, seed=1))


def case(kind: str) -> tuple[Classifier, list[Example]]:
    """Return a model that is not linear, and examples for it."""
    return (text_model(), [*NOTES, LONG]) if kind == "text" else (tabular_model([6]), ROWS)

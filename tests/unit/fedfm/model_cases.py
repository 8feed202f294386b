"""Small models of every kind that fits, with examples for them."""

import numpy as np

from fedfm.config.study import Adapter, Column, Model, Task
from fedfm.examples import Example
from fedfm.model.classifier import Classifier
from fedfm.parameters import load_trainable, trainable

TINY = Model(backbone="bert", source="random")
TEXT = Task(inputs="text", labels=["well", "ill", "dead"])
COLUMNS = Task(
    inputs="columns",
    labels=["no", "yes"],
    columns=[Column("age", 20, 80), Column("chol", 100, 300), Column("bp", 80, 180)],
)
MLP = Model(backbone="tabular", source="none", hidden=[5])
LOGISTIC = Model(backbone="tabular", source="none")
NOTES = [
    Example("p1", 0, text="Patient was stable overnight, discharged home."),
    Example("p2", 1, text="sepsis"),
    Example("p3", 2, text="Zyx-77: fever and cough after surgery; oxygen, fluid, monitor closely until morning."),
    Example("p4", 1, text=""),
    Example("p5", 0, text="no fever. no pain."),
]
ROWS = [
    Example("p1", 0, columns=(50.0, 200.0, 180.0)),
    Example("p2", 1, columns=(20.0, float("nan"), 80.0)),
    Example("p3", 1, columns=(90.0, 1e9, 130.0)),
]
FIT = {
    "bert-head": (TINY, Adapter(method="head"), TEXT, NOTES),
    "bert-lora": (TINY, Adapter(method="lora", rank=3, layers=1), TEXT, NOTES),
    "bert-lora-all": (TINY, Adapter(method="lora", rank=2, layers=0, modules=["query", "dense"]), TEXT, NOTES),
    "bert-ffa_lora": (TINY, Adapter(method="ffa_lora", rank=3, layers=1), TEXT, NOTES),
    "bert-dora": (TINY, Adapter(method="dora", rank=3, layers=1), TEXT, NOTES),
    "bert-ia3": (TINY, Adapter(method="ia3", layers=1, modules=["key", "value"]), TEXT, NOTES),
    "bert-bitfit": (TINY, Adapter(method="bitfit", layers=1), TEXT, NOTES),
    "bert-full": (TINY, Adapter(method="full", layers=0), TEXT, NOTES),
    "tabular-full": (MLP, Adapter(method="full"), COLUMNS, ROWS),
    "tabular-head": (MLP, Adapter(method="head"), COLUMNS, ROWS),
    "logistic-full": (LOGISTIC, Adapter(method="full"), COLUMNS, ROWS),
}


def shaken(model: Classifier) -> Classifier:
    """Move every trainable parameter away from its start, so that B is not zero."""
    rng = np.random.default_rng(0)
    moved = {
        name: array + rng.normal(0, 0.3, array.shape).astype(np.float32) for name, array in trainable(model).items()
    }
    load_trainable(model, moved)
    return model

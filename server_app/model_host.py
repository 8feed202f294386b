"""The global model at the coordinator: built once, handed over at the end."""

from pathlib import Path

from fedfm.arrays import Arrays
from fedfm.config.study import Study
from fedfm.low_rank import FROZEN, is_residual
from fedfm.model.build import model_of, save_adapter
from fedfm.model.classifier import Classifier
from fedfm.model.low_rank import frozen_as_built, frozen_with, set_frozen
from fedfm.parameters import load_trainable, trainable


def build(study: Study) -> tuple[Classifier, Arrays]:
    """Return the model of the study and its trainable parameters; the same study gives the same values.

    Raises:
        ModelError: The weights are absent, unreadable or not the pinned ones.
    """
    model = model_of(study)
    return model, trainable(model)


def first_frozen(model: Classifier, study: Study) -> Arrays:
    """Return what the sites of round 1 load and do not train: LoRA's public A where the study's combiner changes it."""
    return frozen_as_built(model, "factor") if FROZEN.get(study.combining.rule) == "factor" else {}


def keep_adapter(folder: Path, *, model: Classifier, parameters: Arrays, frozen: Arrays, statistics: Arrays) -> None:
    """Write the final adapter to ``folder/adapter``; without a residual, LoRA loads with ``PeftModel.from_pretrained``.

    Args:
        folder: Of the run.
        model: As ``build`` made it.
        parameters: The final global parameters.
        frozen: What the sites load beside them.
        statistics: Pooled statistics; empty where the study has none.
    """
    load_trainable(model, parameters)
    if statistics:
        model.standard.set(statistics)
    residual = {name: array for name, array in frozen.items() if is_residual(name)}
    built = frozen_as_built(model, "residual" if residual else "factor")
    set_frozen(model, frozen_with(model, built, frozen))
    save_adapter(model, folder / "adapter", residual=residual)

"""From a study's settings to a classifier that is ready to train; and to disk and back."""

import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch

from fedfm.arrays import Arrays
from fedfm.config.study import Adapter, Model, Study, Task
from fedfm.errors import ModelError
from fedfm.model.adapters import ADAPTERS
from fedfm.model.backbone import BACKBONES
from fedfm.model.classifier import Classifier, Recipe
from fedfm.model.low_rank import frozen_as_built, frozen_with, set_frozen
from fedfm.model.saved import is_for_peft, read_recipe, read_residual, read_tensors, saved_tensors, unreadable, write

NO_COPIES: Mapping[str, str] = MappingProxyType({})


def build_model(
    model: Model,
    adapter: Adapter,
    task: Task,
    *,
    seed: int,
    weights: Mapping[str, str] = NO_COPIES,
    standardize: str = "reference",
) -> Classifier:
    """Return the classifier of a study: on the CPU, float32, in training mode, without dropout.

    Args:
        model: The distilled starting point.
        adapter: Which parameters are trained.
        task: What is predicted, from what.
        seed: Public seed of the head and of LoRA's A.
        weights: SHA-256 to a local folder that holds these weights; tried before the study's source.
        standardize: The study's ``standardize.method``; statistics are set later (``Classifier.standard``).

    Returns:
        A classifier in which exactly the adapter's parameters require gradients.

    Raises:
        ModelError: The weights cannot be had, or the settings do not fit each other.

    *Guarantees* Equal arguments and weights give equal parameters, bit by bit, on every machine; torch's
    global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):  # torch and PEFT draw starting values that are overwritten here
        classifier = BACKBONES[model.backbone](Recipe(model, adapter, task, seed, standardize), weights)
        classifier.requires_grad_(False)
        ADAPTERS[adapter.method](classifier)
    return classifier.train()


def model_of(study: Study, *, weights: Mapping[str, str] = NO_COPIES) -> Classifier:
    """Return the classifier that every site of a study, and its coordinator, starts from; as ``build_model`` does."""
    return build_model(
        study.model,
        study.adapter,
        study.task,
        seed=study.seed,
        weights=weights,
        standardize=study.standardize.method,
    )


def save_adapter(model: Classifier, directory: Path, *, residual: Arrays | None = None) -> None:
    """Write what was trained into ``directory``, with a README of how to load it.

    LoRA, DoRA and IA3: ``adapter_config.json`` and ``adapter_model.safetensors`` for
    ``PeftModel.from_pretrained``, a frozen factor included, and ``head.safetensors``.
    Others: ``trainable.safetensors``. Always: ``fedfm.json`` and ``README.md``.

    Args:
        model: What was trained.
        directory: Where it is written.
        residual: Factors of what was added to frozen weights, in ``residual.safetensors``. There are no files for PEFT
            then: it would load the adapter without the residual, and say nothing.

    *Guarantees* The directory is whole or not there; one that stood there is replaced.

    Raises:
        OSError: The disk is full or not writable.
    """
    directory = directory.absolute()
    fresh = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}")
    fresh.mkdir(parents=True)
    try:
        write(model, fresh, residual=residual or {})
        if directory.exists():
            old = directory.with_name(f"{fresh.name}.old")
            directory.rename(old)
            fresh.rename(directory)
            shutil.rmtree(old)
        else:
            fresh.rename(directory)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)  # gone already where all went well


def load_adapter(
    directory: Path, *, weights: Mapping[str, str] = NO_COPIES, statistics: Arrays | None = None
) -> Classifier:
    """Return the classifier of a saved run: equal logits to the one that was saved.

    Args:
        directory: What ``save_adapter`` wrote.
        weights: SHA-256 to a local folder with the backbone's weights; tried before the study's source.
        statistics: ``mean`` and ``scale`` of one site, for a study in which each standardised by its own.

    Raises:
        ModelError: The directory is not a whole saved adapter, or the backbone's weights cannot be had; or the
            adapter needs a site's statistics and there are none.
    """
    recipe = read_recipe(directory)
    residual = read_residual(directory)
    for_peft = is_for_peft(recipe.adapter, residual)
    saved = read_tensors(directory, for_peft=for_peft)
    if recipe.standardize == "site" and statistics is None:
        raise _needs_statistics(directory)
    model = build_model(
        recipe.model, recipe.adapter, recipe.task, seed=recipe.seed, weights=weights, standardize=recipe.standardize
    )
    wanted = saved_tensors(model, for_peft=for_peft)
    differing = saved.keys() ^ wanted.keys() or {n for n in saved if saved[n].shape != wanted[n].shape}
    if differing:
        raise unreadable(directory, found=f"{len(differing)} arrays missing, unknown or of another shape")
    set_frozen(model, frozen_with(model, frozen_as_built(model, "residual"), residual))
    with torch.no_grad():
        for name, tensor in saved.items():
            wanted[name].copy_(tensor)
    if statistics is not None:
        model.standard.set(statistics)
    return model


def _needs_statistics(directory: Path) -> ModelError:
    return ModelError(
        "MODEL-E149",
        "this adapter needs the statistics of the site that it is used at",
        where=str(directory),
        found="standardize.method: site, and no statistics",
        allowed="mean and scale of the model's inputs at that site",
        fix="give them as statistics; a study with standardize=global leaves a model that needs none",
    )

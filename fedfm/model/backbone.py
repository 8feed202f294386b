"""The kinds of backbone. To add one: write a function, add it to ``BACKBONES`` and a file to ``conf/model``."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from fedfm.config.study import Task
from fedfm.errors import ModelError
from fedfm.model.classifier import Classifier, Recipe
from fedfm.model.source import WEIGHTS, weights_folder
from fedfm.model.tabular import TabularClassifier
from fedfm.model.text import TextClassifier
from fedfm.model.tiny import tiny_bert, tiny_tokenizer

log = logging.getLogger(__name__)

FAMILY = ("bert", "roberta", "xlm-roberta")
_WHERE = "the folder of the model"
"""Its path may be a hospital's own, and goes to the local log."""


def bert(recipe: Recipe, copies: Mapping[str, str]) -> Classifier:
    """Return a frozen text classifier over an encoder of the BERT family, from the study's source of weights.

    Raises:
        ModelError: The weights are absent, not the pinned ones, incomplete or of another family.
    """
    _check_reads(recipe.task, inputs="text")
    if recipe.model.source == "random":
        return TextClassifier(recipe, tiny_bert(recipe.seed), tiny_tokenizer())
    if recipe.model.source == "none":
        raise ModelError(
            "MODEL-E145",
            "a text model needs weights",
            where="model.source",
            found="none",
            allowed="package, directory, hub, or random for tests",
        )
    folder = weights_folder(recipe.model, copies=copies)
    return TextClassifier(recipe, *_load(folder))


def tabular(recipe: Recipe, _copies: Mapping[str, str]) -> Classifier:
    """Return a classifier of numeric columns; it needs no weights.

    Raises:
        ModelError: The study reads text, or names a source of weights.
    """
    _check_reads(recipe.task, inputs="columns")
    if recipe.model.source != "none":
        raise ModelError(
            "MODEL-E145",
            "a tabular model has no weights to load",
            where="model.source",
            found=recipe.model.source,
            allowed="none",
        )
    return TabularClassifier(recipe)


BACKBONES: dict[str, Callable[[Recipe, Mapping[str, str]], Classifier]] = {"bert": bert, "tabular": tabular}


def _check_reads(task: Task, *, inputs: str) -> None:
    if task.inputs != inputs:
        raise ModelError(
            "MODEL-E145",
            "the model does not read what the task gives",
            where="task.inputs",
            found=task.inputs,
            allowed=inputs,
            fix="choose model=minilm for text, model=logistic or model=mlp for columns",
        )


def _load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Read encoder and tokenizer from a folder whose weights have been checked; never code, never a pickle."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        _check_family(config.model_type, is_decoder=bool(getattr(config, "is_decoder", False)), folder=folder)
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
        with _quiet_progress():
            model, info = AutoModel.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                attn_implementation="sdpa",
                output_loading_info=True,
            )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        log.warning("%s cannot be read: %s", folder, type(error).__name__)
        raise ModelError(
            "MODEL-E143",
            "the folder of the model cannot be read",
            where=_WHERE,
            found=type(error).__name__,
            allowed=f"config.json, {WEIGHTS} and the tokenizer's files, as transformers writes them",
            fix="copy the whole folder of the model; the log of the machine names it",
        ) from error
    lacking = [name for name in (*info["missing_keys"], *info["mismatched_keys"]) if "pooler" not in str(name)]
    if lacking:
        log.warning("%s lacks arrays of its configuration, or has others", folder)
        raise ModelError(
            "MODEL-E143",
            "the weights are not those of the configuration beside them",
            where=_WHERE,
            found=f"{len(lacking)} arrays missing or of another shape",
            fix="copy config.json and the weights from the same model; the log of the machine names the folder",
        )
    return model, tokenizer


def _check_family(model_type: str, *, is_decoder: bool, folder: Path) -> None:
    if model_type not in FAMILY or is_decoder:
        log.warning("%s is of another family", folder / "config.json")
        raise ModelError(
            "MODEL-E144",
            "this architecture is not supported",
            where=f"config.json in {_WHERE}",
            found=model_type + (" as a decoder" if is_decoder else ""),
            allowed=f"encoders of type {', '.join(FAMILY)}",
        )


@contextmanager
def _quiet_progress() -> Iterator[None]:
    """Keep transformers' progress bar out of the trainer's log; as it was afterwards."""
    was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if was_on:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def linear_names(module: nn.Module) -> set[str]:
    """Return the last part of the names of all linear layers in ``module``."""
    return {name.rpartition(".")[2] for name, part in module.named_modules() if isinstance(part, nn.Linear)}

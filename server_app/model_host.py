"""The global model at the coordinator: built once, kept after each round, handed over at the end."""

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from fedfm.arrays import Arrays, from_bytes, layout, to_bytes
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


def keep_checkpoint(
    folder: Path,
    *,
    round_number: int,
    parameters: Arrays,
    rules: Mapping[str, bytes] = MappingProxyType({}),
    others: Collection[int] = (),
) -> None:
    """Write the global parameters after a round, and what the rules keep between rounds, whole or not at all.

    ``checkpoint.json`` names the file, the round and the hash; it is replaced last, so that it always names a
    file that is complete. Checkpoints of earlier rounds are deleted, but for those of the rounds ``others``.
    """
    data = to_bytes(parameters)
    files = {f"{_stem(round_number)}-{kind}": contents for kind, contents in rules.items()}
    for file, contents in files.items():
        _replace(folder / file, contents)
    name = f"{_stem(round_number)}.safetensors"
    _replace(folder / name, data)
    described = {
        "file": name,
        "round": round_number,
        "layout": layout(parameters),
        "sha256": hashlib.sha256(data).hexdigest(),
        "rules": {file: hashlib.sha256(contents).hexdigest() for file, contents in files.items()},
    }
    _replace(folder / "checkpoint.json", json.dumps(described, indent=2).encode())
    for older in folder.glob("checkpoint-*"):
        if older.name not in {name, *files} and _round_of(older) not in others:
            older.unlink()


def take_checkpoint(folder: Path, *, round_number: int) -> tuple[Arrays, dict[str, bytes]]:
    """Return parameters and what the rules kept of a round whose checkpoint lies there, and make it the only one."""
    stem = _stem(round_number)
    parameters = from_bytes((folder / f"{stem}.safetensors").read_bytes())
    rules = {path.name.removeprefix(f"{stem}-"): path.read_bytes() for path in folder.glob(f"{stem}-*")}
    keep_checkpoint(folder, round_number=round_number, parameters=parameters, rules=rules)
    return parameters, rules


def keep_statistics(folder: Path, statistics: Arrays) -> None:
    """Write what the model's input is standardised by beside the checkpoints, which mean nothing without it."""
    _replace(folder / "statistics.safetensors", to_bytes(statistics))


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


def _stem(round_number: int) -> str:
    return f"checkpoint-{round_number:04d}"


def _round_of(file: Path) -> int:
    return int(file.name.split("-")[1].partition(".")[0])


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_suffix(f"{path.suffix}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)

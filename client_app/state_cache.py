"""States of the frozen part of the model, kept on the site's own disk between runs.

They are made from patients' notes and deserve the same protection as the notes: they stay in the
site's state folder, readable by the trainer's user alone, and never travel.
"""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor

from fedfm.config.study import Study
from fedfm.examples import Example

logger = logging.getLogger(__name__)

_KEPT = 6  # train, audit and test of two studies


def cached_states(
    folder: Path, study: Study, examples: Sequence[Example], encode: Callable[[Sequence[Example]], list[Tensor]]
) -> list[Tensor]:
    """Return ``encode(examples)``, from disk where the same model has met the same examples before.

    Args:
        folder: The cache in the site's state folder.
        study: Names the frozen part: weights, layers, cut of the notes.
        examples: In order; their contents are part of the key.
        encode: Runs the frozen part.

    Guarantees:
        Bit for bit what ``encode`` returned. A file that cannot be read is made anew.
    """
    path = folder / f"states-{_key(study, examples)}.safetensors"
    if path.exists():
        try:
            return _loaded(path)
        except (SafetensorError, OSError, KeyError):
            logger.warning("cannot read %s; encoding again", path.name)
    states = encode(examples)
    if states:
        _keep(path, states)
    return states


def _key(study: Study, examples: Sequence[Example]) -> str:
    frozen = {
        "model": asdict(study.model),
        "adapter": [study.adapter.method, study.adapter.layers],
        "columns": [asdict(column) for column in study.task.columns],
        "scaled": study.standardize.method != "none",
        "seed": study.seed if study.model.source == "random" else None,
        "versions": [torch.__version__, transformers.__version__],
        "format": 2,
    }
    digest = hashlib.sha256(json.dumps(frozen, sort_keys=True).encode())
    for example in examples:
        digest.update(json.dumps([example.text, example.columns]).encode() + b"\n")
    return digest.hexdigest()[:32]


def _keep(path: Path, states: Sequence[Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [state if state.dim() == 2 else state.unsqueeze(0) for state in states]
    arrays = {
        "rows": torch.cat(rows).contiguous(),
        "lengths": torch.tensor([len(row) for row in rows]),
        "dimensions": torch.tensor(states[0].dim()),
    }
    # two trainers may share the folder, and in containers of their own they have the same process id
    draft, name = tempfile.mkstemp(suffix=".partial", dir=path.parent)
    os.close(draft)
    safetensors.torch.save_file(arrays, name)
    partial = Path(name)
    partial.chmod(0o600)
    partial.replace(path)
    for old in sorted(path.parent.glob("states-*.safetensors"), key=_last_use)[:-_KEPT]:
        old.unlink(missing_ok=True)


def _last_use(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another trainer was quicker
        return 0.0


def _loaded(path: Path) -> list[Tensor]:
    arrays = safetensors.torch.load_file(path)
    rows = list(torch.split(arrays["rows"], arrays["lengths"].tolist()))
    os.utime(path)  # the oldest unused file is the first to go
    return rows if int(arrays["dimensions"]) == 2 else [row.squeeze(0) for row in rows]

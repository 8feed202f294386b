"""The files of a trained adapter: loadable by PEFT without fedfm, and by fedfm without the study.

LoRA, DoRA and IA3: ``adapter_config.json`` and ``adapter_model.safetensors`` for ``PeftModel.from_pretrained``,
a frozen factor included, and ``head.safetensors``, which has the standardisation folded into it. Others:
``trainable.safetensors``, with the standardisation beside what was trained; and LoRA with a residual in the frozen
weights, in ``residual.safetensors``, of which PEFT knows nothing. Always: ``fedfm.json`` (labels, pooling,
the settings and the seed that it was built from) and a README that says how to load it.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fedfm.arrays import Arrays, from_bytes, to_bytes
from fedfm.config.study import Adapter, Column, Model, Task
from fedfm.errors import ModelError, WireError
from fedfm.model.adapters import peft_config
from fedfm.model.classifier import Classifier, Recipe
from fedfm.model.text import TextClassifier
from fedfm.parameters import public_name

FORMAT_VERSION = 2
PEFT_PREFIX = "base_model.model."
"""What PEFT writes before the backbone's own parameter names."""

ADAPTER, HEAD, DESCRIPTION = "adapter_model.safetensors", "head.safetensors", "fedfm.json"
TRAINABLE, RESIDUAL = "trainable.safetensors", "residual.safetensors"


def is_for_peft(adapter: Adapter, residual: Arrays) -> bool:
    """Say whether PEFT can load all of what this adapter trains."""
    return not residual and peft_config(adapter, layers=[]) is not None


def saved_tensors(model: Classifier, *, for_peft: bool) -> dict[str, Tensor]:
    """Return by public name what belongs into a saved adapter: what is trained, and LoRA's frozen factor.

    Where PEFT does not read the files the standardisation too, which has no place in those that it reads.
    """
    parameters: dict[str, Tensor] = {
        public_name(name): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or "lora_" in name
    }
    if for_peft:
        return parameters
    return parameters | {f"standard.{name}": buffer for name, buffer in model.standard.named_buffers()}


def write(model: Classifier, directory: Path, *, residual: Arrays) -> None:
    """Write all files of a saved adapter into an empty directory."""
    for_peft = is_for_peft(model.recipe.adapter, residual)
    tensors = {n: tensor.detach().cpu().contiguous() for n, tensor in saved_tensors(model, for_peft=for_peft).items()}
    if isinstance(model, TextClassifier) and for_peft:
        _write_peft(model, tensors, directory)
        readme = _PEFT_README
    else:
        save_file(tensors, directory / TRAINABLE)
        readme = _FEDFM_README
    if residual:
        (directory / RESIDUAL).write_bytes(to_bytes(residual))
        readme = _RESIDUAL_README
    pooling = "mean" if isinstance(model, TextClassifier) else "none"
    _write_texts(model.recipe, directory, pooling=pooling, readme=readme)


def _write_peft(model: TextClassifier, tensors: dict[str, Tensor], directory: Path) -> None:
    recipe = model.recipe
    config = peft_config(recipe.adapter, layers=list(range(model.first_adapted, len(model.layers))))
    if config is None:
        raise ValueError(f"no PEFT adapter: {recipe.adapter.method}")
    config.base_model_name_or_path = recipe.model.location
    config.inference_mode = True
    config.save_pretrained(str(directory))
    factors = {_peft_name(n): t for n, t in tensors.items() if n.startswith("backbone.")}
    save_file(factors, directory / ADAPTER, metadata={"format": "pt"})
    save_file(_folded(model), directory / HEAD)


def _folded(model: TextClassifier) -> dict[str, Tensor]:
    """Return the head that gives, on states as they are, what ``head(standard(states))`` gives."""
    weight, bias = model.head.weight.detach().cpu(), model.head.bias.detach().cpu()
    mean, scale = model.standard.mean.cpu(), model.standard.scale.cpu()
    return {"weight": (weight / scale).contiguous(), "bias": bias - weight @ (mean / scale)}


def _peft_name(name: str) -> str:
    return name.replace("backbone.", PEFT_PREFIX, 1).replace(f"{_MAGNITUDE}.weight", _MAGNITUDE)


def _public_name(peft_name: str) -> str:
    name = peft_name.replace(PEFT_PREFIX, "backbone.", 1)
    return f"{name}.weight" if name.endswith(_MAGNITUDE) else name


_MAGNITUDE = "lora_magnitude_vector"  # PEFT writes DoRA's without the ".weight" that it has in the model


def _write_texts(recipe: Recipe, directory: Path, *, pooling: str, readme: str) -> None:
    description = {
        "format_version": FORMAT_VERSION,
        "labels": recipe.task.labels,
        "pooling": pooling,
        "seed": recipe.seed,
        "model": asdict(recipe.model),
        "adapter": asdict(recipe.adapter),
        "task": asdict(recipe.task),
        "standardize": recipe.standardize,
    }
    filled = readme.format(
        labels=", ".join(recipe.task.labels),
        location=recipe.model.location or recipe.model.source,
        sha256=recipe.model.sha256 or "none pinned",
        max_tokens=recipe.model.max_tokens,
        note=_OF_A_SITE if recipe.standardize == "site" else "",
    )
    (directory / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    (directory / "README.md").write_text(filled, encoding="utf-8")


def read_recipe(directory: Path) -> Recipe:
    """Return what the saved classifier was built from.

    Raises:
        ModelError: ``fedfm.json`` is absent, damaged or of another format.
    """
    file = directory / DESCRIPTION
    try:
        read: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if read["format_version"] != FORMAT_VERSION:
            raise unreadable(file, found=f"format {read['format_version']}")
        task = Task(**{**read["task"], "columns": [Column(**column) for column in read["task"]["columns"]]})
        model, adapter = Model(**read["model"]), Adapter(**read["adapter"])
        return Recipe(model, adapter, task, int(read["seed"]), str(read["standardize"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise unreadable(file, found=type(error).__name__) from error


def read_residual(directory: Path) -> Arrays:
    """Return the factors of the residual in the frozen weights; nothing where there is none.

    Raises:
        ModelError: The file is damaged.
    """
    file = directory / RESIDUAL
    if not file.exists():
        return {}
    try:
        return from_bytes(file.read_bytes())
    except (OSError, WireError) as error:
        raise unreadable(file, found=type(error).__name__) from error


def read_tensors(directory: Path, *, for_peft: bool) -> dict[str, Tensor]:
    """Return the saved tensors by the classifier's public names.

    Raises:
        ModelError: A file is absent or damaged.
    """
    try:
        if not for_peft:
            return dict(load_file(directory / TRAINABLE))
        factors, head = load_file(directory / ADAPTER), load_file(directory / HEAD)
    except (OSError, SafetensorError) as error:
        raise unreadable(directory, found=type(error).__name__) from error
    named = {_public_name(name): tensor for name, tensor in factors.items()}
    return named | {f"head.{name}": tensor for name, tensor in head.items()}


def unreadable(where: Path, *, found: str) -> ModelError:
    """Return the error that a folder is not a whole saved adapter."""
    return ModelError(
        "MODEL-E148",
        "this is not a whole saved adapter",
        where=str(where),
        found=found,
        allowed=f"a folder that fedfm wrote, format {FORMAT_VERSION}",
        fix="copy the run's adapter folder again",
    )


_OF_A_SITE = """
THIS MODEL IS NOT WHOLE: each hospital standardised by statistics of its own (`standardize.method: site`), which it
keeps. On a hospital's patients it means what it meant in training only with that hospital's mean and scale:
`load_adapter(Path("adapter"), statistics={"mean": ..., "scale": ...})`, or `(state - mean) / scale` before the head.
"""

_PEFT_README = """# A fine-tuned adapter and its head

Classes: {labels}. Backbone: {location} (SHA-256 of model.safetensors: {sha256}).
{note}Put the folder with the backbone's weights in place of BACKBONE; fedfm is not needed:

```python
from peft import PeftModel; from safetensors.torch import load_file; from transformers import AutoModel, AutoTokenizer
backbone = PeftModel.from_pretrained(AutoModel.from_pretrained("BACKBONE"), "adapter").eval(); head = load_file("adapter/head.safetensors")
tokens = AutoTokenizer.from_pretrained("BACKBONE")(["a note"], return_tensors="pt", padding=True, truncation=True, max_length={max_tokens})
hidden, mask = backbone(**tokens).last_hidden_state, tokens["attention_mask"].unsqueeze(-1)
probabilities = ((hidden * mask).sum(1) / mask.sum(1) @ head["weight"].T + head["bias"]).softmax(-1)
```

With fedfm: `fedfm.model.build.load_adapter(Path("adapter"))`.
"""  # noqa: E501 - five lines that can be copied

_FEDFM_README = """# Fine-tuned parameters

Classes: {labels}. Backbone: {location} (SHA-256 of model.safetensors: {sha256}).
{note}There is no PEFT adapter here: what was trained are plain layers, in `trainable.safetensors`.
`fedfm.json` says what they belong to. Load them with fedfm:

```python
from pathlib import Path
from fedfm.model.build import load_adapter
model = load_adapter(Path("adapter"))
```
"""

_RESIDUAL_README = """# A fine-tuned adapter, and a residual of the backbone's weights

Classes: {labels}. Backbone: {location} (SHA-256 of model.safetensors: {sha256}).
{note}There is no PEFT adapter here: PEFT would load it without `residual.safetensors`, which is added to the frozen
weights of the adapted layers (FedEx-LoRA) and without which the answers are others. Load it with fedfm:

```python
from pathlib import Path
from fedfm.model.build import load_adapter
model = load_adapter(Path("adapter"))
```
"""

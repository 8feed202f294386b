"""Which parameters of a classifier are trained, and travel.

An adapter takes a wholly frozen classifier and opens what it trains. To add one: write a function, add it to
``ADAPTERS`` and a file to ``conf/adapter``. Every trained parameter must sit in an ``nn.Linear``.
"""

from collections.abc import Callable

import torch
from peft import LoraConfig, inject_adapter_in_model

from fedfm.config.study import Adapter
from fedfm.errors import ModelError
from fedfm.model.backbone import linear_names
from fedfm.model.classifier import Classifier
from fedfm.model.draws import kaiming_uniform
from fedfm.model.text import TextClassifier
from fedfm.parameters import public_name


def head(classifier: Classifier) -> None:
    """Train only the linear head (a linear probe); everything below is computed once per example."""
    classifier.head.requires_grad_(True)


def full(classifier: Classifier) -> None:
    """Train every parameter; for small tabular models.

    Raises:
        ModelError: The classifier reads text; BERT's position embeddings cannot be trained example by example.
    """
    if isinstance(classifier, TextClassifier):
        raise _unfit("full", "head, lora, ffa_lora for a text model")
    classifier.requires_grad_(True)


def lora(classifier: Classifier) -> None:
    """Train low-rank updates ``B A`` of the adapted layers, and the head (Hu et al. 2021, arXiv:2106.09685).

    Raises:
        ModelError: The classifier is tabular, or the study names modules or more layers than there are.
    """
    _add_lora(classifier)
    for name, parameter in classifier.named_parameters():
        if "lora_" in name:
            parameter.requires_grad_(True)


def ffa_lora(classifier: Classifier) -> None:
    """Train only ``B`` and the head; ``A`` stays at its public draw (FFA-LoRA, Sun et al. 2024, arXiv:2403.12313).

    The average of ``B_k A`` over sites is then exactly ``(average of B_k) A``.

    Raises:
        ModelError: As ``lora``.
    """
    _add_lora(classifier)
    for name, parameter in classifier.named_parameters():
        if "lora_" in name:
            parameter.requires_grad_("lora_B" in name)


ADAPTERS: dict[str, Callable[[Classifier], None]] = {"head": head, "lora": lora, "ffa_lora": ffa_lora, "full": full}


def lora_config(adapter: Adapter, *, layers: list[int]) -> LoraConfig:
    """Return PEFT's description of the adapter on the given layers."""
    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]  # PEFT divides it by r; a float is as good
        lora_dropout=0.0,
        target_modules=list(adapter.modules),
        layers_to_transform=layers,
        layers_pattern="layer",
        bias="none",
    )


def _add_lora(classifier: Classifier) -> None:
    """Put A (public draw) and B (zero) beside the named linear layers of the top layers; train the head."""
    adapter, seed = classifier.recipe.adapter, classifier.recipe.seed
    if not isinstance(classifier, TextClassifier):
        raise _unfit(adapter.method, "full or head for a tabular model")
    _check_fits(adapter, classifier)
    count = len(classifier.layers)
    first = count - (adapter.layers or count)
    inject_adapter_in_model(lora_config(adapter, layers=list(range(first, count))), classifier.backbone)
    classifier.first_adapted = first
    with torch.no_grad():
        for name, parameter in classifier.named_parameters():
            if "lora_A" in name:
                out, size = parameter.shape
                parameter.copy_(kaiming_uniform(seed, public_name(name), (out, size)))
            elif "lora_B" in name:
                parameter.zero_()
    head(classifier)


def _check_fits(adapter: Adapter, classifier: TextClassifier) -> None:
    if adapter.layers > len(classifier.layers):
        raise ModelError(
            "MODEL-E145",
            "the model has fewer layers",
            where="adapter.layers",
            found=str(adapter.layers),
            allowed=f"0 (all) to {len(classifier.layers)}",
        )
    names = linear_names(classifier.layers[0])
    unknown = sorted(set(adapter.modules) - names)
    if unknown or not adapter.modules:
        raise ModelError(
            "MODEL-E145",
            "the model has no such linear layer" if unknown else "nothing is adapted",
            where="adapter.modules",
            found=", ".join(unknown) or "an empty list",
            allowed=", ".join(sorted(names)),
        )


def _unfit(method: str, allowed: str) -> ModelError:
    return ModelError(
        "MODEL-E145", "the adapter does not fit the model", where="adapter.method", found=method, allowed=allowed
    )

"""Which parameters of a classifier are trained, and travel.

An adapter takes a wholly frozen classifier and opens what it trains. To add one: write a function, add it to
``ADAPTERS`` and a file to ``conf/adapter``. Parameters in an ``nn.Linear`` or ``nn.LayerNorm`` train fastest; others
get a gradient for each example over the whole model.
"""

from collections.abc import Callable

import torch
from peft import IA3Config, LoraConfig, PeftConfig, inject_adapter_in_model
from torch import nn

from fedfm.config.study import Adapter
from fedfm.errors import ModelError
from fedfm.model.backbone import linear_names
from fedfm.model.classifier import Classifier
from fedfm.model.draws import kaiming_uniform
from fedfm.model.text import TextClassifier
from fedfm.parameters import public_name

_FACTORS = "lora_"
"""In the names of all that LoRA adds: A, B, and DoRA's magnitudes."""


def head(classifier: Classifier) -> None:
    """Train only the linear head (a linear probe); everything below is computed once per example."""
    classifier.head.requires_grad_(True)


def full(classifier: Classifier) -> None:
    """Train every parameter of a tabular model; of a text model the top layers and the head.

    The embeddings of a text model stay frozen: their gradient for each example would be a whole table of words.
    """
    if isinstance(classifier, TextClassifier):
        for layer in _top_layers(classifier):
            layer.requires_grad_(True)
        head(classifier)
    else:
        classifier.requires_grad_(True)


def bitfit(classifier: Classifier) -> None:
    """Train the biases and the normalisations of the top layers, and the head (Zaken et al. 2021, arXiv:2106.10199).

    Raises:
        ModelError: The classifier is tabular, or has fewer layers.
    """
    for layer in _top_layers(_text(classifier)):
        for part in layer.modules():
            if isinstance(part, nn.LayerNorm):
                part.requires_grad_(True)
            elif isinstance(part, nn.Linear):
                part.bias.requires_grad_(True)
    head(classifier)


def lora(classifier: Classifier) -> None:
    """Train low-rank updates ``B A`` of the adapted layers, and the head (Hu et al. 2021, arXiv:2106.09685).

    Raises:
        ModelError: The classifier is tabular, or the study names modules or more layers than there are.
    """
    _add_lora(classifier, trained=_FACTORS)


def ffa_lora(classifier: Classifier) -> None:
    """Train only ``B`` and the head; ``A`` stays at its public draw (FFA-LoRA, Sun et al. 2024, arXiv:2403.12313).

    The average of ``B_k A`` over sites is then exactly ``(average of B_k) A``.

    Raises:
        ModelError: As ``lora``.
    """
    _add_lora(classifier, trained="lora_B")


def dora(classifier: Classifier) -> None:
    """Train ``A``, ``B``, the length of each row of the adapted weights, and the head.

    Raises:
        ModelError: As ``lora``.

    Source: DoRA, Liu et al. 2024, arXiv:2402.09353.
    """
    _add_lora(classifier, trained=_FACTORS)


def ia3(classifier: Classifier) -> None:
    """Train a factor for each output of the adapted layers, first 1, and the head.

    Raises:
        ModelError: As ``lora``.

    Source: IA3, Liu et al. 2022, arXiv:2205.05638.
    """
    for name, parameter in _inject(_text(classifier)).items():
        parameter.requires_grad_("ia3_" in name)
    head(classifier)


ADAPTERS: dict[str, Callable[[Classifier], None]] = {
    "head": head,
    "lora": lora,
    "ffa_lora": ffa_lora,
    "dora": dora,
    "ia3": ia3,
    "bitfit": bitfit,
    "full": full,
}


def peft_config(adapter: Adapter, *, layers: list[int]) -> PeftConfig | None:
    """Return PEFT's description of the adapter on the given layers; none where PEFT has no such adapter."""
    if adapter.method == "ia3":
        chosen, modules = "|".join(map(str, layers)), "|".join(adapter.modules)
        return IA3Config(target_modules=rf".*\.layer\.({chosen})\..*\b({modules})", feedforward_modules=[])
    if adapter.method not in ("lora", "ffa_lora", "dora"):
        return None
    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]  # PEFT divides it by r; a float is as good
        lora_dropout=0.0,
        target_modules=list(adapter.modules),
        layers_to_transform=layers,
        layers_pattern="layer",
        bias="none",
        use_dora=adapter.method == "dora",
    )


def _add_lora(classifier: Classifier, *, trained: str) -> None:
    """Put A (public draw) and B (zero) beside the named linear layers of the top layers; train the head."""
    seed = classifier.recipe.seed
    with torch.no_grad():
        for name, parameter in _inject(_text(classifier)).items():
            if "lora_A" in name:
                out, size = parameter.shape
                parameter.copy_(kaiming_uniform(seed, public_name(name), (out, size)))
            elif "lora_B" in name:
                parameter.zero_()
            parameter.requires_grad_(trained in name)
    head(classifier)


def _inject(classifier: TextClassifier) -> dict[str, nn.Parameter]:
    """Let PEFT add the adapter to the top layers; return what it added, by name."""
    adapter = classifier.recipe.adapter
    before = {id(parameter) for parameter in classifier.parameters()}
    _check_modules(adapter, classifier)
    _top_layers(classifier)
    config = peft_config(adapter, layers=list(range(classifier.first_adapted, len(classifier.layers))))
    if config is None:
        raise _unfit(adapter.method, "an adapter that PEFT knows")
    inject_adapter_in_model(config, classifier.backbone)
    return {name: parameter for name, parameter in classifier.named_parameters() if id(parameter) not in before}


def _text(classifier: Classifier) -> TextClassifier:
    if not isinstance(classifier, TextClassifier):
        raise _unfit(classifier.recipe.adapter.method, "full or head for a tabular model")
    return classifier


def _top_layers(classifier: TextClassifier) -> list[nn.Module]:
    """Return the top ``adapter.layers`` layers (0: all), which from now on are run in every step."""
    wanted, count = classifier.recipe.adapter.layers, len(classifier.layers)
    if wanted > count:
        raise ModelError(
            "MODEL-E145",
            "the model has fewer layers",
            where="adapter.layers",
            found=str(wanted),
            allowed=f"0 (all) to {count}",
        )
    classifier.first_adapted = count - (wanted or count)
    return classifier.layers[classifier.first_adapted :]


def _check_modules(adapter: Adapter, classifier: TextClassifier) -> None:
    names = linear_names(classifier.layers[0])
    unknown = sorted(set(adapter.modules) - names)
    if unknown or not adapter.modules:
        raise ModelError(
            "MODEL-E145",
            "the model has no such linear layer" if unknown else "nothing is adapted",
            where="adapter.modules",
            found=", ".join(unknown) or "an empty list",
            allowed=", ".join(sorted(names)),
            fix="embeddings stay frozen: adapt the layers above" if any("embed" in name for name in unknown) else "",
        )


def _unfit(method: str, allowed: str) -> ModelError:
    return ModelError(
        "MODEL-E145", "the adapter does not fit the model", where="adapter.method", found=method, allowed=allowed
    )

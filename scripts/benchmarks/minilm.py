"""MiniLM with an adapter, and batches for it, for benchmarks of the private step."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from client_app.layer_gradients import Grouping
from client_app.per_unit_gradients import Batch
from fedfm.config.compose import compose_study
from fedfm.config.study import Adapter
from fedfm.model.build import build_model
from fedfm.model.classifier import Classifier

HIDDEN = 384
"""Size of MiniLM's hidden states."""

ADAPTERS = {
    "lora": Adapter(method="lora", rank=8, layers=0),
    "lora_top2": Adapter(method="lora", rank=8, layers=2),
    "full": Adapter(method="full", layers=0),
}


def minilm(adapter: str) -> Classifier:
    """Return MiniLM with one of ``ADAPTERS``; LoRA's B away from zero, as after a first step."""
    study = compose_study(["model=minilm"]).value
    model = build_model(study.model, ADAPTERS[adapter], study.task, seed=1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02, generator=generator)
    return model


def random_states(lengths: Sequence[int], *, seed: int) -> list[Tensor]:
    """Return float32[T, D] states of the size of MiniLM's embeddings, one for each length T."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(length, HIDDEN, generator=generator) for length in lengths]
    return [nn.functional.layer_norm(states, (HIDDEN,)) for states in drawn]


def batch_of(states: Sequence[Tensor], *, labels: int, seed: int) -> Batch:
    """Return a batch of patients with one note each."""
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        states=states,
        labels=torch.randint(0, labels, (len(states),), generator=generator),
        factors=torch.ones(len(states)),
        grouping=Grouping(torch.arange(len(states)), len(states)),
    )

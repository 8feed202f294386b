"""A model that cannot be trained privately is refused before any charge, with every reason and a way out."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from client_app.model_problems import problems_of, refuse_unfit
from fedfm.errors import ModelError
from fedfm.model.build import build_model
from tests.unit.fedfm.model_cases import FIT


class WithBuffer(nn.Linear):
    """A trained layer that remembers."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.register_buffer("seen", torch.zeros(4))


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    return model


def checkpointed() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4))
    model.gradient_checkpointing = True  # type: ignore[assignment]
    return model


FAULTS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "batch normalisation": (lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), "1", "GroupNorm"),
    "MultiheadAttention": (lambda: nn.Sequential(nn.MultiheadAttention(4, 2)), "0", "freeze"),
    "buffers": (lambda: nn.Sequential(WithBuffer()), "0", "freeze"),
    "shares its parameter": (tied, "1.weight", "its own"),
    "dropout": (lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1)), "1", "rate to 0"),
    "checkpointing": (checkpointed, "model", "smaller micro_batch"),
    "evaluation mode": (lambda: nn.Linear(4, 4).eval(), "model", "train()"),
    "nothing is trained": (lambda: nn.Linear(4, 4).requires_grad_(False), "model", "adapter"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_problem_with_place_reason_and_fix(fault: str) -> None:
    make, where, fix = FAULTS[fault]
    (problem,) = problems_of(make())
    assert problem.where == where
    assert fault in problem.reason
    assert fix.replace("its own", "of its own") in problem.fix


def test_all_problems_are_named_at_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.MultiheadAttention(4, 2)).eval()
    with pytest.raises(ModelError, match="MODEL-E151") as refused:
        refuse_unfit(model)
    for part in ("batch normalisation", "MultiheadAttention", "dropout", "evaluation mode", "GroupNorm", "rate to 0"):
        assert part in str(refused.value)


@pytest.mark.parametrize("name", FIT)
def test_every_model_that_fits_has_no_problem(name: str) -> None:
    refuse_unfit(build_model(*FIT[name][:3], seed=1))


def test_what_is_frozen_may_be_anything_but_a_mixer_of_patients() -> None:
    attention = nn.MultiheadAttention(4, 2).requires_grad_(False)
    assert not problems_of(nn.Sequential(attention, WithBuffer().requires_grad_(False), nn.Linear(4, 2)))
    assert problems_of(nn.Sequential(nn.BatchNorm1d(4).requires_grad_(False), nn.Linear(4, 2)))

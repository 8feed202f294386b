"""What is summed over audit patients is bounded for each of them, and independent of the others."""

import numpy as np
import pytest
import torch
from torch import nn

from client_app import checks
from client_app.scores import logits_of, probabilities_of
from client_app.training import Cohort
from fedfm.config.study import Explainability
from fedfm.examples import Example
from fedfm.explain.audit import Audit

SETTINGS = Explainability(steps=2)


def test_random_orders_come_from_no_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    empty = Audit({}, [], np.zeros((0, 0)), np.zeros((0, 0), dtype=bool))

    def audit(*_: object, rng: np.random.Generator, **__: object) -> Audit:
        drawn.append(int(rng.integers(2**63)))
        return empty

    monkeypatch.setattr(checks, "audit", audit)
    for _ in range(2):
        np.random.seed(1)
        checks.explain(nn.Identity(), [], SETTINGS)  # type: ignore[arg-type]
    assert drawn[0] != drawn[1]


def test_one_document_a_patient_by_a_coin_that_others_do_not_move() -> None:
    everyone = [Example(str(n % 50), 0, text=str(n)) for n in range(200)]
    chosen = checks.chosen_documents(everyone, 0.4, "run", by_record=False)
    assert len({example.patient for example in chosen}) == len(chosen)
    assert 8 <= len(chosen) <= 32
    without = checks.chosen_documents([e for e in everyone if e.patient != "7"], 0.4, "run", by_record=False)
    assert without == [example for example in chosen if example.patient != "7"]


def test_a_record_that_goes_makes_no_room_for_another() -> None:
    """Where the record is the unit: else one record would move each sum by two documents."""
    everyone = [Example(str(n % 5), 0, text=str(n)) for n in range(20)]
    chosen = checks.chosen_documents(everyone, 0.7, "run", by_record=True)
    assert 0 < len(chosen) < 20
    for gone in everyone:
        rest = checks.chosen_documents([e for e in everyone if e is not gone], 0.7, "run", by_record=True)
        assert rest == [example for example in chosen if example is not gone]


def test_a_patient_whose_score_overflows_counts_as_undecided() -> None:
    class Overflowing(nn.Module):
        def forward(self, states: list[torch.Tensor]) -> torch.Tensor:
            return torch.stack([torch.stack([state[0], -state[0]]) for state in states])

    cohort = Cohort([torch.tensor([2.0]), torch.tensor([float("inf")])], torch.tensor([0, 1]), [], torch.ones(2))
    found = probabilities_of(logits_of(Overflowing(), cohort, 8, 2))  # type: ignore[arg-type]
    assert found[1].tolist() == [0.5, 0.5]
    assert found[0, 0] > 0.9

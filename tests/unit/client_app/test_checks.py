"""Which documents are looked at and how: independent of one another, finite, and by no seed."""

from typing import Any

import numpy as np
import pytest
import torch
from opacus.grad_sample import GradSampleHooks
from torch import nn

from client_app.layer_gradients import Grouping, recording
from client_app.reasons import checks
from client_app.scores import logits_of, probabilities_of
from client_app.training import Cohort
from fedfm.config.explainability import Explainability
from fedfm.config.site import Explanations
from fedfm.config.study import Adapter, Model, Task
from fedfm.errors import ModelError
from fedfm.examples import Example
from fedfm.explain.audit import Watched
from fedfm.explanations import MOST_TERMS, RANGES, figure_of
from fedfm.model.build import build_model
from fedfm.model.classifier import Classifier
from fedfm.parameters import load_trainable, trainable
from tests.unit.client_app.looks import giving, leaning_by

SETTINGS = Explainability(steps=2, shortcuts={"ward": ["ward"]}, swaps={"sex": {"woman": "man"}})
WORDS = [f"word{letter}" for letter in "abcdefghijklmnopqrstuvwx"]


@pytest.fixture
def model() -> Classifier:
    task = Task(inputs="text", labels=["well", "ill"])
    return build_model(Model(backbone="bert", source="random", max_tokens=64), Adapter(method="head"), task, seed=0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e9, -1e9])
def test_figures_that_cannot_be_computed_or_lie_far_out_are_bounded(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedfm.explain.audit.audit", giving(lambda *_: value))
    monkeypatch.setattr("fedfm.explain.audit.leanings", leaning_by(lambda *_: value))
    one = [Example("a", 0, text="t", row=0)]
    found = checks.look(nn.Identity(), one, SETTINGS, watched=checks.of_study(SETTINGS), randomised=True)  # type: ignore[arg-type]
    assert len(found.sums) == 10
    leaning = checks.leanings(nn.Identity(), one, SETTINGS, watched=checks.of_study(SETTINGS))  # type: ignore[arg-type]
    assert len(leaning) == 4
    for name, (figure,) in [*found.sums.items(), *leaning.items()]:
        low, high = RANGES[figure_of(name)]
        assert low <= figure <= high, name
        assert figure == max(low, 0.0) or not np.isnan(value), name  # not-a-number is nothing, not the most


def test_random_orders_come_from_no_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, empty = [], giving(lambda *_: 0.0)

    def audit(*of: Any, rng: np.random.Generator, **how: Any) -> Any:
        drawn.append(int(rng.integers(2**63)))
        return empty(*of, **how)

    monkeypatch.setattr("fedfm.explain.audit.audit", audit)
    for _ in range(2):
        np.random.seed(1)
        checks.look(nn.Identity(), [], SETTINGS, watched=Watched())  # type: ignore[arg-type]
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


def test_no_list_of_a_study_hides_one_of_the_site_or_stands_for_it() -> None:
    """What leaves is made of the study's lists alone, whatever names both have given."""
    own = Explanations(shortcuts={"ward": ["bay four"], "tag": ["x"]}, swaps={"sex": {"she": "he"}})
    names = ("ward", "own/ward", "own/own/tag", "own/own/own/sex")
    settings = Explainability(shortcuts={name: ["study"] for name in names}, swaps={"own/sex": {"a": "b"}})
    both, alone = checks.with_own(settings, own), checks.of_study(settings)
    assert {name: both.shortcuts[name] for name in alone.shortcuts} == alone.shortcuts
    assert {name: both.swaps[name] for name in alone.swaps} == alone.swaps
    assert sorted(words for name, words in both.shortcuts.items() if name not in names) == [["bay four"], ["x"]]
    assert {"she": "he"} in both.swaps.values()
    assert not both.vocabulary
    simple = checks.with_own(Explainability(), own)
    assert list(simple.shortcuts) == ["own/ward", "own/tag"]


def test_a_document_moves_terms_by_at_most_what_is_stated_whatever_the_parameters(model: Classifier) -> None:
    """A coordinator that lies sends the largest parameters it may, and many terms that one document holds."""
    notes = [" ".join(WORDS), " ".join(WORDS[:3]), "", WORDS[0] * 30]
    documents = [Example(str(n), 0, text=note, row=n) for n, note in enumerate(notes)]
    settings = Explainability(steps=2, vocabulary=WORDS)
    for size in (0.1, 100.0):
        start = trainable(model)
        load_trainable(model, {name: np.full_like(array, size) for name, array in start.items()})
        found = checks.look(model, documents, settings, watched=checks.of_study(settings, terms=True))
        assert np.isfinite(found.terms).all()
        assert (np.linalg.norm(found.terms, axis=1) <= 1 + 1e-9).all()
        assert (found.holds.sum(axis=1) <= MOST_TERMS).all()
        assert not found.terms[~found.holds].any()


@pytest.mark.parametrize("by", ["the site", "Opacus"])
def test_a_look_while_hooks_of_a_private_step_are_attached_is_refused(by: str, model: Classifier) -> None:
    documents = [Example("a", 0, text="stable patient on the ward", row=0)]

    def look() -> None:
        checks.look(model, documents, SETTINGS, watched=checks.of_study(SETTINGS))

    look()
    if by == "Opacus":
        hooks = GradSampleHooks(model, strict=False)
        with pytest.raises(ModelError, match="MODEL-E147"):
            look()
        hooks.remove_hooks()
    else:
        attached = recording(model, Grouping(torch.zeros(1, dtype=torch.int64), 1))
        with pytest.raises(ModelError, match="MODEL-E147"), attached:
            look()
    look()


def test_a_patient_whose_score_overflows_counts_as_undecided() -> None:
    class Overflowing(nn.Module):
        def forward(self, states: list[torch.Tensor]) -> torch.Tensor:
            return torch.stack([torch.stack([state[0], -state[0]]) for state in states])

    cohort = Cohort([torch.tensor([2.0]), torch.tensor([float("inf")])], torch.tensor([0, 1]), [], torch.ones(2))
    found = probabilities_of(logits_of(Overflowing(), cohort, 8, 2))  # type: ignore[arg-type]
    assert found[1].tolist() == [0.5, 0.5]
    assert found[0, 0] > 0.9

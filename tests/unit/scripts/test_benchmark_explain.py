"""The table of explainers has every method of the registry, judged on the same documents."""

from dataclasses import replace

import numpy as np
import pytest

from fedfm.config.study import Adapter, Model, Task
from fedfm.examples import Example
from fedfm.explain.attribution import ATTRIBUTIONS, Method
from fedfm.model.build import build_model
from fedfm.model.classifier import Classifier
from scripts.benchmarks import explain, explainers

NOTES = [
    Example("p1", 0, text="stable patient walking with the nurse this morning"),
    Example("p2", 1, text="shock and renal failure, ventilated, severe sepsis at night"),
    Example("p3", 0, text="walking and resting, stable pulse, normal temperature"),
    Example("p4", 1, text="severe dyspnea, unstable, shock, critical"),
]


@pytest.fixture(scope="module")
def model() -> Classifier:
    """A tiny model that has learnt the notes."""
    task = Task(inputs="text", labels=["well", "ill"])
    made = build_model(Model(source="random"), Adapter(method="lora", rank=4, layers=1), task, seed=1)
    explainers.fine_tune(made, NOTES, steps=30)
    return made


def test_fine_tuning_teaches(model: Classifier) -> None:
    assert explainers.balanced_accuracy(model, NOTES) == 1


def test_every_method_and_every_baseline_has_a_row() -> None:
    assert {method.name for method in explainers.WAYS.values()} == set(ATTRIBUTIONS)
    assert {method.baseline for method in explainers.WAYS.values()} == {"pad", "mask", "mean"}


def test_rows_are_judged_on_the_same_documents(model: Classifier) -> None:
    ways = {name: replace(method, steps=3) for name, method in explainers.WAYS.items()}
    rows = explainers.compared(model, NOTES, redrawn=2, ways=ways)
    assert set(rows) == {"random order", *explainers.WAYS}
    assert {len(numbers) for numbers in rows.values()} == {len(explainers.COLUMNS)}
    of = {name: dict(zip(_NAMES, numbers, strict=True)) for name, numbers in rows.items()}
    best, dearest = of["leave one out"], of["integrated gradients, 10 steps"]
    assert best["comprehensiveness"] >= max(found["comprehensiveness"] for found in of.values()) - 0.05
    assert best["over random"] > 0
    assert of["random order"]["comprehensiveness"] < best["comprehensiveness"]
    assert dearest["completeness"] is not None
    assert of["gradient norm"]["completeness"] is None
    assert of["attention rollout"]["head"] == pytest.approx(1)  # the head has no part in it
    assert dearest["head"] < 0.99
    for found in of.values():
        low, value, high = (found[key] for key in ("low", "comprehensiveness", "high"))
        assert low <= value <= high


_NAMES = (
    *("cost", "comprehensiveness", "low", "high", "over random", "sufficiency", "s low", "s high"),
    *("completeness", "head", "all"),
)


def test_documents_are_of_each_label_in_turn() -> None:
    many = [Example(f"p{i}", int(i % 10 == 0), text="a") for i in range(100)]
    chosen = explainers.evenly(many, 12)
    assert [example.label for example in chosen[:20]] == [0, 1] * 10
    assert [example.label for example in chosen[20:]] == [0, 0]  # there are ten of the other
    assert len({example.patient for example in chosen}) == 22


def test_captums_figures_are_told_apart_from_others(model: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    found = explain.captum_differences(model, NOTES[:2])
    assert set(found) == {"integrated_gradients", "infidelity", "sensitivity"}
    assert max(found.values()) < 1e-4
    fewer = explainers.WAYS["integrated gradients, 5 steps"]
    monkeypatch.setattr(
        explain, "attribute", lambda model, inputs, _: _ATTRIBUTE(model, inputs, replace(fewer, steps=2))
    )
    assert explain.captum_differences(model, NOTES[:2])["integrated_gradients"] > 1e-4


_ATTRIBUTE = explain.attribute


def test_audit_and_epoch_are_timed_in_turn(model: Classifier) -> None:
    notes = [replace(note, patient=str(i)) for i, note in enumerate(NOTES * 16)]
    audits, epochs = explain.timed(model, notes, repeated=2)
    assert len(audits) == len(epochs) == 2
    assert min(audits + epochs) > 0
    assert np.isfinite(explainers.balanced_accuracy(model, NOTES))
    assert Method() == explainers.WAYS["integrated gradients, 10 steps"]

"""The fixed step before what is trained: the same in every path through the model, and never part of an update."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fedfm.arrays import Arrays
from fedfm.config.study import Adapter
from fedfm.errors import FedFMError, ModelError
from fedfm.examples import Example
from fedfm.model.build import build_model, load_adapter, save_adapter
from fedfm.model.classifier import Classifier
from fedfm.model.tabular import LIMIT
from fedfm.model.text import TextClassifier
from fedfm.parameters import trainable
from tests.unit.fedfm.model_cases import COLUMNS, FIT, LOGISTIC, ROWS, shaken

Built = tuple[Classifier, list[Example]]


def statistics_for(model: Classifier) -> Arrays:
    rng = np.random.default_rng(5)
    like = model.standard.arrays()
    mean = rng.normal(0, 0.4, like["mean"].shape).astype(np.float32)
    return {"mean": mean, "scale": rng.uniform(0.3, 1.7, like["scale"].shape).astype(np.float32)}


@pytest.fixture(params=list(FIT.values()), ids=list(FIT))
def built(request: pytest.FixtureRequest) -> Built:
    model, adapter, task, examples = request.param
    return shaken(build_model(model, adapter, task, seed=3)), examples


def test_statistics_change_the_answers_and_neither_the_states_nor_the_update(built: Built) -> None:
    model, examples = built
    states, names = model.encode(examples), set(trainable(model))
    before = model(states)
    model.standard.set(statistics_for(model))
    assert all(torch.equal(new, old) for new, old in zip(model.encode(examples), states, strict=True))
    assert set(trainable(model)) == names
    assert not any("standard" in name for name in names)
    assert not torch.allclose(model(states), before, atol=1e-3)


def test_explanations_see_the_same_model(built: Built) -> None:
    model, examples = built
    model.standard.set(statistics_for(model))
    inputs = model.inputs(examples)
    through = model.logits_from_inputs(inputs.values, inputs.present)
    torch.testing.assert_close(through, model(model.encode(examples)), atol=1e-4, rtol=1e-4)


def test_a_saved_model_keeps_its_statistics(built: Built, tmp_path: Path) -> None:
    model, examples = built
    model.standard.set(statistics_for(model))
    save_adapter(model, tmp_path / "adapter")
    loaded = load_adapter(tmp_path / "adapter")
    states = model.encode(examples)
    torch.testing.assert_close(loaded(states), model(states), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["bert-lora", "bert-ffa_lora"])
def test_the_lines_of_the_readme_give_the_same_logits(name: str, tmp_path: Path) -> None:
    """Mean of the tokens' states times the saved head, without fedfm's own standardisation."""
    model, adapter, task, examples = FIT[name]
    classifier = shaken(build_model(model, adapter, task, seed=3))
    classifier.standard.set(statistics_for(classifier))
    save_adapter(classifier, tmp_path / "adapter")
    head, states = load_file(tmp_path / "adapter" / "head.safetensors"), classifier.encode(examples)
    plain = classifier.unstandardized(states) @ head["weight"].T + head["bias"]
    torch.testing.assert_close(plain, classifier(states), atol=1e-5, rtol=1e-5)


def test_columns_are_centred_scaled_cut_and_missing_ones_stay_at_the_mean() -> None:
    model = build_model(LOGISTIC, Adapter(method="full"), COLUMNS, seed=1)
    model.standard.set({"mean": np.float32([0.5, 0, -1]), "scale": np.float32([0.5, 2, 0.1])})
    values = model.inputs(ROWS).values[..., 0]
    # age 50 is 0, 20 is -1, 90 is 4/3; cholesterol 1e9 is cut; pressure 130 is 0
    expected = [[-1.0, 0.0, LIMIT], [-3.0, 0.0, 0.0], [5 / 3, LIMIT, LIMIT]]
    np.testing.assert_allclose(values.numpy(), expected, atol=1e-6)


def test_none_gives_back_the_values_of_the_file() -> None:
    model = build_model(LOGISTIC, Adapter(method="full"), COLUMNS, seed=1, standardize="none")
    rows = [Example("p", 0, columns=(1.25, -0.5, float("nan"))), Example("q", 0, columns=(55.0, 2.0, -7.0))]
    values = model.inputs(rows).values[..., 0].numpy()
    np.testing.assert_allclose(values, [[1.25, -0.5, 0.0], [LIMIT, 2.0, -LIMIT]], atol=1e-5)


HOSTILE = {
    "not a number": {"mean": np.float32([np.nan, 0, 0])},
    "infinite": {"mean": np.float32([0, np.inf, 0])},
    "far mean": {"mean": np.float32([0, 0, 1e9])},
    "scale of zero": {"scale": np.float32([0, 1, 1])},
    "negative scale": {"scale": np.float32([-1, 1, 1])},
    "tiny scale": {"scale": np.float32([1e-30, 1, 1])},
    "huge scale": {"scale": np.float32([1e30, 1, 1])},
    "scale that is no number": {"scale": np.float32([np.nan, 1, 1])},
    "another shape": {"mean": np.float32([0, 0])},
    "another name": {"more": np.float32([0])},
}


@pytest.mark.parametrize("change", HOSTILE)
def test_hostile_statistics_are_refused_and_change_nothing(change: str) -> None:
    model = build_model(LOGISTIC, Adapter(method="full"), COLUMNS, seed=1)
    good = {"mean": np.float32([0.1, 0, 0]), "scale": np.float32([1, 2, 1])}
    model.standard.set(good)
    with pytest.raises(FedFMError, match=r"WIRE-E01[014]"):
        model.standard.set({**good, **HOSTILE[change]})
    assert all(np.array_equal(model.standard.arrays()[name], good[name]) for name in good)


@pytest.mark.parametrize("name", ["logistic-full", "bert-ffa_lora"])
def test_a_model_of_site_statistics_is_nothing_without_them(name: str, tmp_path: Path) -> None:
    model, adapter, task, examples = FIT[name]
    classifier = shaken(build_model(model, adapter, task, seed=3, standardize="site"))
    save_adapter(classifier, tmp_path / "adapter")
    assert "THIS MODEL IS NOT WHOLE" in (tmp_path / "adapter" / "README.md").read_text()
    with pytest.raises(ModelError, match="MODEL-E149"):
        load_adapter(tmp_path / "adapter")
    own = statistics_for(classifier)
    classifier.standard.set(own)
    states = classifier.encode(examples)
    loaded = load_adapter(tmp_path / "adapter", statistics=own)
    torch.testing.assert_close(loaded(states), classifier(states))
    assert loaded.recipe == replace(classifier.recipe, standardize="site")


def test_the_state_behind_the_frozen_part_is_what_is_standardised() -> None:
    model, adapter, task, examples = FIT["bert-head"]
    classifier = build_model(model, adapter, task, seed=3)
    assert isinstance(classifier, TextClassifier)
    assert torch.equal(classifier.unstandardized(classifier.encode(examples)), torch.stack(classifier.encode(examples)))

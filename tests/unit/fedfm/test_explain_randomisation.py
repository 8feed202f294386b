"""Parameters drawn anew and put back; methods that look at the answer, and planted ones that do not."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from fedfm.errors import ModelError
from fedfm.examples import Example
from fedfm.explain.attribution import ATTRIBUTIONS, Attribution, Method, integrated_gradients
from fedfm.explain.randomisation import PARTS, drawn_anew, rank_correlation_after, sizes
from fedfm.model.classifier import Classifier, Inputs
from fedfm.model.draws import normal
from tests.unit.fedfm.judged_cases import columns_model, notes, rows, text_model

METHOD = Method(steps=3)


def by_place(_model: Classifier, inputs: Inputs, _method: Method) -> Attribution:
    """A planted fault: credits by where a unit stands, whatever the model says."""
    place = torch.arange(inputs.present.shape[1], dtype=torch.float32).expand(inputs.present.shape)
    return Attribution(torch.zeros(len(place), dtype=torch.int64), place * inputs.removable, None)


def alike(_model: Classifier, inputs: Inputs, _method: Method) -> Attribution:
    """A planted fault: each unit gets the same."""
    return Attribution(torch.zeros(len(inputs.present), dtype=torch.int64), inputs.removable.float(), None)


def turned_by_the_head(model: Classifier, inputs: Inputs, method: Method) -> Attribution:
    """A planted fault: the same words in the same order, for or against as the head says."""
    found = by_place(model, inputs, method)
    return Attribution(found.target, found.credits * model.head.weight[0, 0].sign().item(), None)


@pytest.mark.parametrize("parts", PARTS)
def test_the_named_parameters_change_and_all_are_back_bit_by_bit(parts: str) -> None:
    model = text_model()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    with drawn_anew(model, parts, seed=1):
        changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    varied = {name for name, parameter in before.items() if parameter.std(correction=0) > 0}
    expected = {
        "head": {name for name in varied if name.startswith("head.")},
        "adapters": {name for name in varied if name.startswith("head.") or "lora_" in name},
        "all": varied,
    }[parts]
    assert changed == expected
    assert len(expected) > 1
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert flags == {name: parameter.requires_grad for name, parameter in model.named_parameters()}


def test_draws_are_new_of_the_same_size_and_of_the_seed() -> None:
    model = text_model(labels=[str(label) for label in range(40)])
    weight, drawn = model.head.weight.detach().clone(), []
    for seed in (1, 1, 2):
        with drawn_anew(model, "head", seed=seed):
            drawn.append(model.head.weight.detach().clone())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert drawn[0].std().item() == pytest.approx(weight.std().item(), rel=0.1)
    for other in (weight, normal(1, "head.weight", shape=tuple(weight.shape), sd=1.0)):  # the study's own first head
        assert abs(np.corrcoef(drawn[0].flatten(), other.flatten())[0, 1]) < 0.1


def test_equal_to_scipy_on_credits_by_word() -> None:
    model, examples = text_model(), notes(9, seed=3)
    found = rank_correlation_after(model, examples, method=METHOD, parts="head", seed=4)
    before = sizes(model, examples, method=METHOD)
    with drawn_anew(model, "head", seed=4):
        after = sizes(model, examples, method=METHOD)
    compared = 0
    for value, one, other in zip(found, before, after, strict=True):
        if len(one) > 2:
            assert value == pytest.approx(spearmanr(one, other).statistic, abs=1e-9)
            compared += 1
        else:
            assert value == 0
    assert 5 <= compared < 9


def test_integrated_gradients_pass_and_a_method_that_ignores_the_model_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ATTRIBUTIONS, "by_place", by_place)
    model, examples = text_model(), [note for note in notes(40, seed=5) if len((note.text or "").split()) > 6]
    for parts, limit in (("head", 0.6), ("adapters", 0.6), ("all", 0.3)):
        asked = {"parts": parts, "seed": 1}
        assert rank_correlation_after(model, examples, method=METHOD, **asked).mean() < limit
        fooled = rank_correlation_after(model, examples, method=Method("by_place"), **asked)
        assert fooled.tolist() == pytest.approx([1.0] * len(examples))


def test_a_method_that_only_turns_its_sign_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ATTRIBUTIONS, "turned", turned_by_the_head)
    model, examples, signs = text_model(), [Example("p", 0, text="fever and night at home")], set()
    for seed in range(8):
        with drawn_anew(model, "head", seed=seed):
            signs.add(model.head.weight[0, 0].sign().item())
        found = rank_correlation_after(model, examples, method=Method("turned"), parts="head", seed=seed)
        assert found.tolist() == pytest.approx([1.0])
    assert signs == {1.0, -1.0}


def test_credits_of_one_size_and_short_documents_count_as_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ATTRIBUTIONS, "alike", alike)
    model = text_model()
    short = [Example("p", 0, text=text) for text in ("", "sepsis", "sepsis fever")]
    assert rank_correlation_after(model, short, method=METHOD, parts="all", seed=1).tolist() == [0.0] * 3
    same = [Example(str(n), 0, text="fever night " * n) for n in range(2, 6)]
    assert rank_correlation_after(model, same, method=Method("alike"), parts="head", seed=1).tolist() == [0.0] * 4
    nothing = columns_model([0.0] * 4)
    found = rank_correlation_after(nothing, rows(3, seed=1, columns=4), method=METHOD, parts="all", seed=1)
    assert found.tolist() == [0.0] * 3
    assert rank_correlation_after(model, [], method=METHOD, parts="head", seed=1).shape == (0,)


def test_parameters_are_back_when_the_model_cannot_be_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = text_model(), []
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}

    def fails_later(model: Classifier, inputs: Inputs, method: Method) -> Attribution:
        calls.append(1)
        if len(calls) > 1:
            raise ModelError("MODEL-E147", "hooks")
        return integrated_gradients(model, inputs, method)

    monkeypatch.setitem(ATTRIBUTIONS, "fails_later", fails_later)
    with pytest.raises(ModelError):
        rank_correlation_after(model, notes(3, seed=1), method=Method("fails_later"), parts="all", seed=1)
    assert len(calls) == 2
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())

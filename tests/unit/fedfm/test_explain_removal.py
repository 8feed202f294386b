"""What goes with a word, against captum and by hand."""

import pytest
import torch
from captum.attr import FeatureAblation
from torch import Tensor

from fedfm.examples import Example
from fedfm.explain.attribution import Method, attribute
from fedfm.explain.removal import WINDOW
from fedfm.model.classifier import Classifier, Inputs
from tests.unit.fedfm.explained_cases import LONG, NOTES, ROWS, tabular_model, text_model

SIZES = {"leave_one_out": 1, "occlusion": WINDOW}


def ablated(model: Classifier, inputs: Inputs, target: Tensor, *, window: int) -> Tensor:
    """Return captum's ablation of one document: its features are windows of words, absent is their baseline."""
    there = inputs.present.float()
    windows = torch.where(inputs.removable, inputs.words // window + 1, 0)
    found: Tensor = FeatureAblation(lambda kept: model.logits_from_inputs(inputs.values, kept > 0.5)).attribute(
        there + 0.0, baselines=(~inputs.removable).float() * there, target=target, feature_mask=windows
    )
    return found


@pytest.mark.parametrize("name", SIZES)
def test_words_equal_captum(name: str) -> None:
    model, examples = text_model(), [*NOTES, LONG]
    result = attribute(model, model.inputs(examples), Method(name))
    for row, example in enumerate(examples):
        inputs = model.inputs([example])
        reference = ablated(model, inputs, result.target[row : row + 1], window=SIZES[name])[0]
        windows, there = inputs.words[0] // SIZES[name], inputs.removable[0]
        shared = torch.stack([(windows == w).sum() if ok else torch.tensor(1) for w, ok in zip(windows, there)])  # noqa: B905
        torch.testing.assert_close(result.credits[row, : len(shared)], reference * there / shared, atol=1e-4, rtol=1e-4)
    assert result.credits.abs().max() > 1e-2


def test_columns_equal_captum() -> None:
    model = tabular_model([6])
    inputs = model.inputs(ROWS)
    result = attribute(model, inputs, Method("leave_one_out"))
    reference = FeatureAblation(model.logits_from_inputs).attribute(
        inputs.values,
        baselines=inputs.baseline,
        target=result.target,
        additional_forward_args=(inputs.present,),
        feature_mask=torch.arange(4).view(1, 4, 1).expand(1, 4, 2),
    )
    torch.testing.assert_close(result.credits, reference[..., 0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SIZES)
def test_a_words_tokens_share_equally_and_together_are_its_drop(name: str) -> None:
    model, example = text_model(), Example("p", 0, text="the zyxwv was q9 stable and well")
    inputs = model.inputs([example])
    result = attribute(model, inputs, Method(name))
    with torch.no_grad():
        whole = model.logits_from_inputs(inputs.values, inputs.present)[0, result.target[0]]
        for start in range(0, len(inputs.names[0]), SIZES[name]):
            gone = (inputs.words >= start) & (inputs.words < start + SIZES[name])
            left = model.logits_from_inputs(inputs.values, inputs.present & ~gone)[0, result.target[0]]
            credits_ = result.credits[gone]
            assert credits_.sum() == pytest.approx((whole - left).item(), abs=1e-5)
            assert credits_.unique().numel() == 1
    assert (inputs.words[0] == 1).sum() == 5


def test_the_most_credited_word_is_the_one_whose_loss_costs_most() -> None:
    """Leave-one-out cannot be beaten at one word, by no order at all."""
    model, inputs = text_model(), text_model().inputs([NOTES[2]])
    result = attribute(model, inputs, Method("leave_one_out"))
    credit = [result.credits[inputs.words == word].sum().item() for word in range(len(inputs.names[0]))]
    with torch.no_grad():
        left = [
            model.logits_from_inputs(inputs.values, inputs.present & (inputs.words != word))[0, result.target[0]].item()
            for word in range(len(credit))
        ]
    assert credit.index(max(credit)) == left.index(min(left))


@pytest.mark.parametrize("name", SIZES)
def test_a_forward_for_each_window_with_rows_that_are_alike_in_length_together(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = text_model()
    inputs = model.inputs([*NOTES, LONG])
    lengths: list[int] = []
    real = model.logits_from_inputs

    def counted(values: Tensor, present: Tensor) -> Tensor:
        lengths.extend(present.sum(1).tolist())
        return real(values, present)

    monkeypatch.setattr(model, "logits_from_inputs", counted)
    attribute(model, inputs, Method(name))
    removed = lengths[len(inputs.names) :]
    windows = [-(-len(words) // SIZES[name]) for words in inputs.names]
    assert len(removed) == sum(windows)
    assert removed == sorted(removed, reverse=True)
    assert max(removed) < inputs.present.shape[1]

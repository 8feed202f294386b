"""Comprehensiveness against a plain recomputation, planted reasons, and a model without any."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedfm.config.study import Adapter, Column, Model, Task
from fedfm.examples import Example
from fedfm.explain.attribution import ATTRIBUTIONS, Attribution, Method, integrated_gradients
from fedfm.explain.faithfulness import BINS, faithfulness
from fedfm.model.build import build_model
from fedfm.model.classifier import Classifier, Inputs
from fedfm.parameters import load_trainable, trainable

TEXT = Task(inputs="text", labels=["well", "ill"])
WORDS = ["patient", "was", "stable", "sepsis", "fever", "home", "ward", "night", "the", "oxygen"]


def notes(count: int, *, seed: int) -> list[Example]:
    rng = np.random.default_rng(seed)
    return [Example(f"p{i}", 0, text=" ".join(rng.choice(WORDS, rng.integers(0, 20)))) for i in range(count)]


def text_model(*, method: str = "lora") -> Classifier:
    model = build_model(Model(source="random"), Adapter(method=method, rank=4), TEXT, seed=1)
    rng = np.random.default_rng(0)
    load_trainable(model, {n: a + rng.normal(0, 0.3, a.shape).astype(np.float32) for n, a in trainable(model).items()})
    return model


def columns_model(weights: list[float]) -> Classifier:
    """Logistic regression whose logit difference is the weighted sum of the scaled columns."""
    task = Task(inputs="columns", labels=["no", "yes"], columns=[Column(f"c{i}", -1, 1) for i in range(len(weights))])
    model = build_model(Model(backbone="tabular", source="none"), Adapter(method="full"), task, seed=1)
    weight = np.zeros((2, 2 * len(weights)), np.float32)
    weight[1, : len(weights)] = weights
    load_trainable(model, {"head.weight": weight, "head.bias": np.zeros(2, np.float32)})
    return model


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def measure(
    model: Classifier, examples: list[Example], *, seed: int = 0, steps: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    result = faithfulness(model, examples, steps=steps, rng=np.random.default_rng(seed))
    return result.comprehensiveness, result.random_order


def test_a_linear_model_by_hand() -> None:
    """Ten columns; 1, 5 and 10 % delete one, 20 % two, 50 % five, the largest credits first."""
    weights = [0.1, 2.0, -1.0, 0.3, 0.0, 1.0, -0.2, 0.4, 0.5, 0.05]
    model = columns_model(weights)
    comprehensiveness, _ = measure(model, [Example("p", 1, columns=(1.0,) * 10)])
    full, ordered = sum(weights), sorted(weights, reverse=True)
    expected = np.mean([sigmoid(full) - sigmoid(full - sum(ordered[:k])) for k in (1, 1, 1, 2, 5)])
    assert comprehensiveness[0] == pytest.approx(expected, abs=1e-6)


def test_equal_to_a_plain_recomputation_note_by_note() -> None:
    model, examples = text_model(), notes(19, seed=3)
    comprehensiveness, _ = measure(model, examples)
    for example, found in zip(examples, comprehensiveness, strict=True):
        inputs = model.inputs([example])
        result = integrated_gradients(model, inputs, Method(steps=10))
        removable = [i for i in range(inputs.present.shape[1]) if inputs.removable[0, i]]
        ranked = sorted(removable, key=lambda i: -result.credits[0, i].item())
        drops = []
        for share in BINS:
            present = inputs.present.clone()
            present[0, ranked[: math.ceil(share * len(ranked))]] = False
            with torch.no_grad():
                before, after = (
                    model.logits_from_inputs(inputs.values, p).softmax(-1) for p in (inputs.present, present)
                )
            drops.append((before - after)[0, result.target[0]].item())
        assert found == pytest.approx(np.mean(drops), abs=1e-5)


def test_true_reasons_beat_the_random_order_by_far() -> None:
    rng = np.random.default_rng(1)
    model = columns_model([4.0] + [0.1] * 19)
    examples = [Example(str(i), 1, columns=(1.0, *rng.uniform(-1, 1, 19))) for i in range(40)]
    comprehensiveness, random = measure(model, examples)
    assert comprehensiveness.mean() > random.mean() + 0.2
    assert (comprehensiveness > random).mean() > 0.9


def test_credits_without_reason_do_not_beat_the_random_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault: credits drawn at random. The difference must then hold zero within 4 standard errors."""
    generator = torch.Generator().manual_seed(0)

    def noise(model: Classifier, inputs: Inputs, method: Method) -> Attribution:
        real = integrated_gradients(model, inputs, method)
        credits_: Tensor = torch.rand(real.credits.shape, generator=generator)
        return Attribution(real.target, credits_, real.completeness_error)

    monkeypatch.setitem(ATTRIBUTIONS, "noise", noise)
    rng = np.random.default_rng(2)
    model = columns_model([2.0, -1.0, 0.5, 1.0, 0.3, 1.5, 0.7, -0.2])
    examples = [Example(str(i), 1, columns=tuple(rng.uniform(-1, 1, 8))) for i in range(200)]
    result = faithfulness(model, examples, steps=2, rng=np.random.default_rng(0), attribution="noise")
    gain = result.comprehensiveness - result.random_order
    assert abs(gain.mean()) < 4 * gain.std() / math.sqrt(len(gain))
    real = measure(model, examples)
    assert (real[0] - real[1]).mean() > 4 * gain.std() / math.sqrt(len(gain))


def test_a_model_that_ignores_its_input_has_no_reasons() -> None:
    model = columns_model([0.0] * 5)
    result = faithfulness(model, [Example("p", 0, columns=(1.0,) * 5)], steps=4, rng=np.random.default_rng(0))
    assert (
        result.comprehensiveness.tolist() == result.random_order.tolist() == result.completeness_error.tolist() == [0]
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(0, 11))
def test_bounds_order_and_repeatability(seed: int, count: int) -> None:
    model, examples = text_model(method="head"), notes(count, seed=seed)
    one = faithfulness(model, examples, steps=3, rng=np.random.default_rng(seed))
    two = faithfulness(model, examples, steps=3, rng=np.random.default_rng(seed))
    for name in ("comprehensiveness", "random_order", "completeness_error"):
        values = getattr(one, name)
        assert values.shape == (count,)
        assert values.dtype == np.float64
        assert np.isfinite(values).all()
        assert np.array_equal(values, getattr(two, name))
    assert (np.abs(one.comprehensiveness) <= 1).all()
    assert (np.abs(one.random_order) <= 1).all()
    assert (one.completeness_error >= 0).all()


def test_results_stand_in_the_order_of_the_examples() -> None:
    model, examples = text_model(), notes(18, seed=5)
    straight, _ = measure(model, examples)
    turned, _ = measure(model, examples[::-1])
    np.testing.assert_allclose(turned, straight[::-1], atol=1e-5)
    assert len(set(straight.round(4))) > 8


def test_another_seed_changes_the_random_order_only() -> None:
    model, examples = text_model(), notes(12, seed=6)
    one, two = measure(model, examples, seed=1), measure(model, examples, seed=2)
    assert np.array_equal(one[0], two[0])
    assert not np.array_equal(one[1], two[1])

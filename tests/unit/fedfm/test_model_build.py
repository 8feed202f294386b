"""Every backbone with every adapter: what is trained, gradients per example, determinism, disk and back."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedfm.arrays import layout
from fedfm.config.study import Adapter, Model
from fedfm.errors import DataError, ModelError
from fedfm.examples import Example
from fedfm.model.adapters import ADAPTERS
from fedfm.model.backbone import BACKBONES
from fedfm.model.build import build_model
from fedfm.model.classifier import Classifier
from fedfm.model.tabular import LIMIT
from fedfm.parameters import trainable
from tests.unit.fedfm.model_cases import COLUMNS, FIT, LOGISTIC, MLP, NOTES, ROWS, TEXT, TINY, shaken

Built = tuple[Classifier, list[Example]]


@pytest.fixture(params=list(FIT.values()), ids=list(FIT))
def built(request: pytest.FixtureRequest) -> Built:
    model, adapter, task, examples = request.param
    return build_model(model, adapter, task, seed=3), examples


def test_every_pair_of_the_registries_is_built_or_refused_by_name() -> None:
    fitting = {("bert", method) for method in ADAPTERS} | {("tabular", "full"), ("tabular", "head")}
    for backbone in BACKBONES:
        for method in ADAPTERS:
            model, task = (TINY, TEXT) if backbone == "bert" else (MLP, COLUMNS)
            if (backbone, method) in fitting:
                assert trainable(build_model(model, Adapter(method=method), task, seed=1))
            else:
                with pytest.raises(ModelError, match=r"MODEL-E145.*adapter\.method"):
                    build_model(model, Adapter(method=method), task, seed=1)


def test_what_is_trained() -> None:
    shapes = {
        key: {name: array.shape for name, array in trainable(build_model(m, a, t, seed=1)).items()}
        for key, (m, a, t, _) in FIT.items()
    }
    head = {"head.weight": (3, 32), "head.bias": (3,)}
    top = "backbone.encoder.layer.1.attention.self."
    b = {f"{top}{module}.lora_B.weight": (32, 3) for module in ("query", "value")}
    a = {f"{top}{module}.lora_A.weight": (3, 32) for module in ("query", "value")}
    assert shapes["bert-head"] == head
    assert shapes["bert-lora"] == head | a | b
    assert shapes["bert-ffa_lora"] == head | b
    assert len(shapes["bert-lora-all"]) == 2 + 2 * 2 * 4  # query and three dense layers, in two layers, A and B
    assert shapes["tabular-head"] == {"head.weight": (2, 5), "head.bias": (2,)}
    assert shapes["tabular-full"] == shapes["tabular-head"] | {"hidden.0.weight": (5, 6), "hidden.0.bias": (5,)}
    assert shapes["logistic-full"] == {"head.weight": (2, 6), "head.bias": (2,)}


def test_ready_to_train(built: Built) -> None:
    model, _ = built
    assert all(module.training for module in model.modules())
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert all(module.p == 0 for module in model.modules() if isinstance(module, nn.Dropout))


def test_forward_gives_one_row_of_finite_logits_for_each_example(built: Built) -> None:
    model, examples = built
    logits = model(model.encode(examples))
    assert logits.shape == (len(examples), model.labels)
    assert logits.isfinite().all()
    assert model([]).shape == (0, model.labels)
    assert model.encode([]) == []


def test_encode_and_forward_do_not_depend_on_what_comes_together(built: Built) -> None:
    model, examples = built
    shaken(model)
    together = model.encode(examples)
    alone = [model.encode([example])[0] for example in examples]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=2e-6, rtol=1e-5)
        assert one.device.type == "cpu"
        assert not one.requires_grad
    rows = torch.cat([model([state]) for state in together])
    torch.testing.assert_close(model(together), rows, atol=5e-6, rtol=1e-5)


def test_encode_keeps_the_order_over_many_batches() -> None:
    model = build_model(*FIT["bert-lora"][:3], seed=1)
    many = [NOTES[i % len(NOTES)] for i in range(70)]
    states = model.encode(many)
    for i, state in enumerate(states):
        torch.testing.assert_close(state, states[i % len(NOTES)], atol=2e-6, rtol=1e-5)


def test_equal_arguments_give_equal_parameters_and_leave_the_global_random_state() -> None:
    for model, adapter, task, _ in FIT.values():
        torch.manual_seed(11)
        state = torch.get_rng_state()
        one = build_model(model, adapter, task, seed=5)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(12)
        other = build_model(model, adapter, task, seed=5)
        assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
        third = build_model(model, adapter, task, seed=6)
        assert not torch.equal(one.head.weight, third.head.weight)


FACTOR = [-0.17015476524829865, 0.15114645659923553, 0.07789912074804306]
HEAD = [0.010996452532708645, -0.011710237711668015, -0.033761247992515564]


def test_first_head_and_frozen_factor_are_the_public_draw() -> None:
    """Fixed numbers: a change of the draw would let sites of different versions disagree in silence."""
    model = build_model(TINY, Adapter(method="ffa_lora", rank=3, layers=1), TEXT, seed=1)
    factor = model.get_parameter("backbone.encoder.layer.1.attention.self.query.lora_A.default.weight")
    bound = 1 / np.sqrt(32)
    assert factor.abs().max() <= bound
    assert factor.std().item() == pytest.approx(bound / np.sqrt(3), rel=0.15)
    assert factor[0, :3].tolist() == FACTOR
    assert model.head.weight[0, :3].tolist() == pytest.approx(HEAD, abs=1e-8)
    assert model.head.weight.std().item() == pytest.approx(0.02, rel=0.25)
    assert not model.head.bias.any()


def test_a_fresh_lora_is_the_backbone_itself() -> None:
    with_lora = build_model(TINY, Adapter(method="ffa_lora", layers=1), TEXT, seed=1)
    without = build_model(TINY, Adapter(method="head"), TEXT, seed=1)
    torch.testing.assert_close(with_lora(with_lora.encode(NOTES)), without(without.encode(NOTES)), atol=1e-6, rtol=1e-5)


def test_layout_does_not_depend_on_the_seed_but_on_the_rank() -> None:
    layouts = [
        layout(trainable(build_model(TINY, Adapter(method="lora", rank=rank), TEXT, seed=seed)))
        for rank, seed in ((3, 1), (3, 2), (4, 1))
    ]
    assert layouts[0] == layouts[1] != layouts[2]


def per_example_loss(model: Classifier, states: list[Tensor], labels: list[int]) -> Tensor:
    return nn.functional.cross_entropy(model(states), torch.tensor(labels), reduction="sum")


def test_one_step_lowers_the_loss_and_moves_only_what_is_trained(built: Built) -> None:
    model, examples = built
    states, labels = model.encode(examples), [example.label for example in examples]
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    first = per_example_loss(model, states, labels)
    first.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.02 * parameter.grad)
    assert per_example_loss(model, states, labels) < first
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    # A of a fresh LoRA has no gradient: B is zero.
    assert moved == {n for n, p in model.named_parameters() if p.requires_grad and "lora_A" not in n}


def test_columns_are_scaled_by_the_public_range_and_say_what_is_missing() -> None:
    model = build_model(LOGISTIC, Adapter(method="full"), COLUMNS, seed=1)
    first, second, third = (state.tolist() for state in model.encode(ROWS))
    assert first == pytest.approx([0, 0, 1, 0, 0, 0])
    assert second == pytest.approx([-1, 0, -1, 0, 1, 0])
    assert third == pytest.approx([4 / 3, 1e6, 0, 0, 0, 0], abs=1e-6)  # cut when standardised, which comes later
    assert model.inputs(ROWS).values[2, 1].tolist() == [LIMIT, 0]


@pytest.mark.parametrize("model", [LOGISTIC, MLP])
def test_columns_through_the_explained_path_equal_forward(model: Model) -> None:
    classifier = build_model(model, Adapter(method="full"), COLUMNS, seed=1)
    inputs = classifier.inputs(ROWS)
    through = classifier.logits_from_inputs(inputs.values, inputs.present)
    torch.testing.assert_close(through, classifier(classifier.encode(ROWS)))


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"model": Model(backbone="tabular", source="none")}, "task.inputs"),
        ({"task": COLUMNS}, "task.inputs"),
        ({"model": Model(backbone="bert", source="none")}, "model.source"),
        ({"model": dataclasses.replace(LOGISTIC, source="random"), "task": COLUMNS}, "model.source"),
        ({"adapter": Adapter(method="lora", layers=3)}, "adapter.layers"),
        ({"adapter": Adapter(method="lora", modules=["query", "q_proj"])}, "adapter.modules"),
        ({"adapter": Adapter(method="ffa_lora", modules=[])}, "adapter.modules"),
        ({"model": dataclasses.replace(TINY, max_tokens=513)}, "model.max_tokens"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused_by_name(changes: dict[str, object], place: str) -> None:
    settings = {"model": TINY, "adapter": Adapter(method="head"), "task": TEXT} | changes
    with pytest.raises(ModelError, match=place.replace(".", r"\.")) as refused:
        build_model(**settings, seed=1)  # type: ignore[arg-type]
    assert refused.value.code == "MODEL-E145"


def test_examples_of_the_other_kind_are_refused_without_their_values() -> None:
    text = build_model(TINY, Adapter(method="head"), TEXT, seed=1)
    columns = build_model(LOGISTIC, Adapter(method="full"), COLUMNS, seed=1)
    with pytest.raises(DataError, match="SITE-E029"):
        text.encode([Example("p", 0, columns=(31337.0,))])
    for wrong in (Example("p", 0, text="SECRET"), Example("p", 0, columns=(31337.0,))):
        with pytest.raises(DataError, match="SITE-E029") as refused:
            columns.encode([wrong])
        assert "31337" not in str(refused.value)
        assert "SECRET" not in str(refused.value)

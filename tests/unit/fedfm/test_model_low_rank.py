"""A model with a turned A, a residual in its frozen weights, or a smaller rank; and its saved adapter."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch import nn

from fedfm.arrays import Arrays
from fedfm.config.compose import compose_study
from fedfm.errors import ModelError
from fedfm.low_rank import FROZEN, LORA_A, LORA_B, RESIDUAL_A, RESIDUAL_B, adapted
from fedfm.model import low_rank
from fedfm.model.build import build_model, load_adapter
from fedfm.model.classifier import Classifier
from fedfm.model.low_rank import at_rank, frozen_as_built, frozen_with, set_frozen
from fedfm.parameters import load_trainable, public_name, trainable
from fedfm.signals import GRAM, WEIGHTING_NEEDS
from server_app import model_host
from tests.unit.fedfm.model_cases import FIT, NOTES, shaken

LORA, FFA = FIT["bert-lora-all"], FIT["bert-ffa_lora"]


def built(case: tuple) -> Classifier:  # type: ignore[type-arg]
    return shaken(build_model(*case[:3], seed=3))


def logits(model: Classifier) -> torch.Tensor:
    with torch.no_grad():
        return model(model.encode(NOTES))


def residual(model: Classifier, rank: int, seed: int = 0) -> Arrays:
    chance, found = np.random.default_rng(seed), Arrays()
    start = trainable(model)
    for layer in adapted(start):
        found[layer + RESIDUAL_B] = 0.1 * chance.normal(size=(len(start[layer + LORA_B]), rank)).astype(np.float32)
        found[layer + RESIDUAL_A] = chance.normal(size=(rank, start[layer + LORA_A].shape[1])).astype(np.float32)
    return found


def orthonormal(model: Classifier) -> Arrays:
    chance = np.random.default_rng(4)
    return {
        name: np.linalg.qr(chance.normal(size=a.shape).T)[0].T.astype(np.float32).copy()
        for name, a in frozen_as_built(model, "factor").items()
    }


def dense(model: Classifier, products: Mapping[str, np.ndarray]) -> Classifier:
    """The same backbone without an adapter: ``products`` times alpha / rank is in its weights."""
    adapter, recipe = model.recipe.adapter, model.recipe
    plain = build_model(recipe.model, FIT["bert-head"][1], recipe.task, seed=recipe.seed)
    plain.head.load_state_dict(model.head.state_dict())
    with torch.no_grad():
        for layer, product in products.items():
            plain.get_parameter(f"{layer}.weight").add_(torch.tensor(product * adapter.alpha / adapter.rank))
    return plain


def products(parameters: Arrays) -> dict[str, np.ndarray]:
    return {n: parameters[n + LORA_B].astype(float) @ parameters[n + LORA_A] for n in adapted(parameters)}


def test_what_is_as_built_is_nothing_of_what_is_trained() -> None:
    for case in (LORA, FFA):
        model = built(case)
        for kind in ("factor", "residual"):
            frozen = frozen_as_built(model, kind)
            assert len(frozen) == len(adapted(trainable(model)))
            assert (frozen.keys() & trainable(model).keys() == set()) == (kind == "residual" or case is FFA)
        assert frozen_as_built(model, "") == {}
    assert frozen_as_built(built(FIT["tabular-full"]), "residual") == {}


def test_a_residual_is_added_to_what_is_built_however_often_and_in_whatever_order() -> None:
    model = built(LORA)
    start = frozen_as_built(model, "residual")
    for rank in (2, 5):
        set_frozen(model, frozen_with(model, start, residual(model, rank)))
    parameters, last = trainable(model), residual(model, 5)
    both = {n: p + last[n + RESIDUAL_B].astype(float) @ last[n + RESIDUAL_A] for n, p in products(parameters).items()}
    plain = dense(model, both)
    assert torch.allclose(logits(model), logits(plain), atol=1e-5)
    set_frozen(model, frozen_with(model, start, {}))
    for name, array in start.items():
        assert np.array_equal(frozen_as_built(model, "residual")[name], array)


@pytest.mark.parametrize("case", [FIT["bert-lora"], FFA], ids=["lora", "ffa_lora"])
def test_what_runs_once_for_each_note_never_changes(case: tuple) -> None:  # type: ignore[type-arg]
    """So that states that a site keeps on disk stay right whatever frozen arrays come."""
    model = built(case)
    states, before = model.encode(NOTES), logits(model)
    kind, received = ("factor", orthonormal(model)) if case is FFA else ("residual", residual(model, 3))
    set_frozen(model, frozen_with(model, frozen_as_built(model, kind), received))
    assert not torch.allclose(logits(model), before, atol=1e-4)
    assert all(torch.equal(one, other) for one, other in zip(states, model.encode(NOTES), strict=True))


def loss_of(model: Classifier) -> torch.Tensor:
    return nn.functional.cross_entropy(model(model.encode(NOTES)), torch.tensor([note.label for note in NOTES]))


def step(model: Classifier, length: float = 0.5) -> None:
    """One step of plain gradient descent on what requires a gradient."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss_of(model), parameters)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(length * gradient)


@pytest.mark.parametrize("rank", [1, 2, 3, 9])
def test_a_part_of_lora_trains_as_that_part_alone_with_the_whole_ones_scaling(rank: int) -> None:
    case = FIT["bert-lora"]
    model = built(case)
    received = trainable(model)
    with at_rank(model, rank):
        assert {p.shape[0] for n, p in model.named_parameters() if "lora_A" in n} == {min(rank, 3)}
        plain = dense(model, products(trainable(model)))
        assert torch.allclose(logits(model), logits(plain), atol=1e-5)
        step(model)
    after = trainable(model)
    kept = min(rank, 3)
    masked = {
        n: a * (np.arange(3) < kept)[(None, slice(None)) if n.endswith(LORA_B) else (slice(None), None)]
        if n.endswith((LORA_A, LORA_B))
        else a
        for n, a in received.items()
    }
    reference = built(case)
    load_trainable(reference, masked)
    step(reference)  # beyond the rank both factors are zero, and so is either gradient
    for name, array in trainable(reference).items():
        np.testing.assert_allclose(after[name], array, atol=1e-5)
    for layer in adapted(after):
        assert (after[layer + LORA_A][kept:] == 0).all()
        assert (after[layer + LORA_B][:, kept:] == 0).all()
        padded = received[layer + LORA_A] + (after[layer + LORA_A] - received[layer + LORA_A])
        assert (padded[kept:] == 0).all()  # as the coordinator sees it


def test_a_part_of_ffa_lora_trains_beside_the_frozen_rest() -> None:
    model, whole = built(FFA), built(FFA)
    received, base = trainable(model), frozen_as_built(model, "residual")
    with at_rank(model, 2):
        assert torch.allclose(logits(model), logits(whole), atol=1e-5)  # the rest takes part
        step(model)
    step(whole)
    after, reference = trainable(model), trainable(whole)
    for layer in adapted(after):
        assert np.array_equal(after[layer + LORA_B][:, 2:], received[layer + LORA_B][:, 2:])
        np.testing.assert_allclose(after[layer + LORA_B][:, :2], reference[layer + LORA_B][:, :2], atol=1e-5)
    for name, array in frozen_as_built(model, "residual").items():
        assert np.array_equal(array, base[name])
    assert [n for n, p in model.named_parameters() if p.requires_grad] == [
        n for n, p in whole.named_parameters() if p.requires_grad
    ]


def test_a_model_is_whole_again_after_training_fails() -> None:
    model = built(FFA)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}

    def fails() -> None:
        with at_rank(model, 1):
            raise RuntimeError("of the training")

    with pytest.raises(RuntimeError, match="of the training"):
        fails()
    assert {name: parameter.shape for name, parameter in model.named_parameters()} == {
        name: value.shape for name, value in before.items()
    }
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def kept(model: Classifier, folder: Path, frozen: Arrays) -> Path:
    model_host.keep_adapter(folder, model=model, parameters=trainable(model), frozen=frozen, statistics={})
    return folder / "adapter"


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_saved_adapter_has_the_last_a_and_peft_loads_it(tmp_path: Path) -> None:
    model = built(FFA)
    turned = orthonormal(model)
    folder = kept(model, tmp_path, turned)
    loaded = load_adapter(folder)
    assert torch.equal(logits(loaded), logits(model))
    parameters = {public_name(name): parameter.detach().numpy() for name, parameter in loaded.named_parameters()}
    assert all(np.array_equal(parameters[name], a) for name, a in turned.items())
    plain = build_model(*FIT["bert-head"][:3], seed=3)
    reread = PeftModel.from_pretrained(plain.backbone, folder)
    words = model.tokenizer([note.text for note in NOTES], return_tensors="pt", padding=True)
    with torch.no_grad():
        assert torch.allclose(
            reread.eval()(**words).last_hidden_state, model.backbone(**words).last_hidden_state, atol=1e-6
        )


def test_a_saved_adapter_with_a_residual_reloads_and_does_not_pretend_to_peft(tmp_path: Path) -> None:
    model = built(LORA)
    without = logits(model)
    folder = kept(model, tmp_path, residual(model, 4))
    assert not torch.allclose(logits(model), without, atol=1e-3)
    assert torch.equal(logits(load_adapter(folder)), logits(model))
    files = {path.name for path in folder.iterdir()}
    assert files == {"README.md", "fedfm.json", "trainable.safetensors", "residual.safetensors"}
    assert "PEFT would load it without" in (folder / "README.md").read_text()
    (folder / "residual.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelError, match="MODEL-E148"):
        load_adapter(folder)
    (folder / "residual.safetensors").unlink()
    with pytest.raises(ModelError, match="MODEL-E148"):
        load_adapter(folder)


def test_a_residual_that_is_forgotten_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault for the test above."""
    model = built(LORA)
    folder = kept(model, tmp_path, residual(model, 4))
    monkeypatch.setattr(low_rank, "residual_of", lambda *_: 0.0)
    assert not torch.equal(logits(load_adapter(folder)), logits(model))


def test_the_coordinator_sends_a_only_where_the_combiner_turns_it() -> None:
    for rule, adapter, some in (("ffa_svd", "ffa_lora", True), ("linear", "ffa_lora", False), ("fedex", "lora", False)):
        overrides = [f"adapter={adapter}", f"combining={rule}", "model=tiny", *(["privacy=none"] * (rule == "fedex"))]
        study = compose_study(overrides).value
        model, _ = model_host.build(study)
        assert bool(model_host.first_frozen(model, study)) == some


def test_rules_of_inner_products_are_those_that_ask_for_them() -> None:
    from fedfm.config.coherence.low_rank import OF_GRAM  # noqa: PLC0415
    from server_app.combining.rules import COMBINERS  # noqa: PLC0415

    assert {rule for rule, needs in WEIGHTING_NEEDS.items() if GRAM in needs} <= set(OF_GRAM)
    assert set(FROZEN) <= set(COMBINERS)

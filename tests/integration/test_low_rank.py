"""Combiners of low-rank products end to end: what a site loads, what it refuses, and a whole federation."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client_app.rounds import LARGEST_PARAMETER
from client_app.trainer.warm import Trainer
from client_app.training import fine_tune_openly
from fedfm.arrays import Arrays, layout
from fedfm.config.compose import compose_study, load_site, study_to_json
from fedfm.config.study import Study
from fedfm.errors import FedFMError
from fedfm.examples import Example
from fedfm.low_rank import LORA_A, LORA_B, RESIDUAL_A, RESIDUAL_B, adapted, residual_of
from fedfm.model.build import build_model, load_adapter
from fedfm.model.low_rank import frozen_as_built
from fedfm.parameters import load_trainable, trainable
from fedfm.wire import Request, TrainReply
from server_app.aggregation import Aggregated, Aggregation
from server_app.updates import Updates
from tests.integration.conftest import CANARY, write_hospital
from tests.integration.test_simulate import NAMES, OPEN, simulated

OPENLY = ["privacy=none", "evaluation=exact", "explainability=none"]
SMALL = ["model=tiny", "weighting=cohort", "rounds=2", "min_sites=2", "adapter.rank=4", "training.learning_rate=0.5"]
STUDIES: Mapping[str, list[str]] = {
    "ffa_svd": ["combining=ffa_svd", "adapter=ffa_lora"],
    "flexlora": ["combining=flexlora", "adapter=lora"],
    "fedex": ["combining=fedex", "adapter=lora"],
    "linear": ["combining=linear", "adapter=lora"],
}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def study_of(rule: str, *overrides: str) -> Study:
    study: Study = compose_study([*STUDIES[rule], *SMALL, *OPENLY, *overrides]).value
    return study


def trainer_of(folder: Path, **changes: Any) -> Trainer:
    return Trainer(replace(load_site(write_hospital(folder, policy=OPEN)), **changes))


def start_of(study: Study) -> tuple[Arrays, Arrays]:
    """Parameters away from their start, and A."""
    model = build_model(study.model, study.adapter, study.task, seed=study.seed)
    chance, start = np.random.default_rng(7), trainable(model)
    moved = {name: array + chance.normal(0, 0.1, array.shape).astype(np.float32) for name, array in start.items()}
    return moved, frozen_as_built(model, "factor")


def request(study: Study, parameters: Arrays, frozen: Arrays, *, number: int = 1) -> Request:
    return Request("run-1", study_to_json(study), number, layout(parameters), parameters, frozen)


def residual(parameters: Arrays, rank: int, *, size: float = 0.1) -> Arrays:
    chance, found = np.random.default_rng(9), Arrays()
    for layer in adapted(parameters):
        found[layer + RESIDUAL_B] = size * chance.normal(size=(len(parameters[layer + LORA_B]), rank))
        found[layer + RESIDUAL_A] = chance.normal(size=(rank, parameters[layer + LORA_A].shape[1]))
    return {name: array.astype(np.float32) for name, array in found.items()}


def after(reply: TrainReply, parameters: Arrays) -> Arrays:
    return {name: array + reply.update[name] for name, array in parameters.items()}


def test_a_site_trains_on_the_weights_with_the_residual_whatever_it_missed(tmp_path: Path) -> None:
    study = study_of("fedex", "privacy.max_grad_norm=null")
    parameters, _ = start_of(study)
    trainer = trainer_of(tmp_path)
    trainer.train(request(study, parameters, residual(parameters, 2)))  # another residual, which must not stay
    found = trainer.train(request(study, parameters, residual(parameters, 3), number=2))
    reference = build_model(study.model, study.adapter, study.task, seed=study.seed)
    load_trainable(reference, parameters)
    scale = study.adapter.alpha / study.adapter.rank
    with torch.no_grad():
        for layer in adapted(parameters):
            added = scale * residual_of(residual(parameters, 3), layer)
            reference.get_parameter(f"{layer}.base_layer.weight").add_(torch.tensor(added))
    cohort = trainer._prepared(study).train
    coins = np.random.default_rng(0).random  # every patient is in every step
    fine_tune_openly(reference, cohort, training=study.training, micro_batch=16, uniform=coins)
    for name, array in trainable(reference).items():
        np.testing.assert_allclose(parameters[name] + found.update[name], array, atol=1e-6)
    evaluated = [
        trainer.evaluate(request(study, parameters, frozen, number=2)).cells
        for frozen in (residual(parameters, 3, size=2.0), {})
    ]
    assert (evaluated[0] != evaluated[1]).any()


def test_a_site_of_smaller_rank_answers_in_the_studys_layout_with_a_product_of_its_own_rank(tmp_path: Path) -> None:
    study = study_of("flexlora")
    parameters, _ = start_of(study)
    small = after(trainer_of(tmp_path / "a", max_rank=2).train(request(study, parameters, {})), parameters)
    whole = after(trainer_of(tmp_path / "b").train(request(study, parameters, {})), parameters)
    for layer in adapted(parameters):
        assert (small[layer + LORA_B][:, 2:] == 0).all()
        assert (small[layer + LORA_A][2:] == 0).all()
        moved = small[layer + LORA_B][:, :2] - parameters[layer + LORA_B][:, :2]
        assert np.abs(moved).max() > 1e-5
        assert (whole[layer + LORA_B][:, 2:] != parameters[layer + LORA_B][:, 2:]).any()


@pytest.mark.parametrize("rule", ["flexlora", "ffa_svd"])
def test_under_privacy_nothing_beyond_the_rank_is_noise_or_data(rule: str, tmp_path: Path) -> None:
    study: Study = compose_study([*STUDIES[rule], *SMALL, "explainability=none"]).value
    parameters, a = start_of(study)
    asked = request(study, parameters, a if rule == "ffa_svd" else {})
    update = trainer_of(tmp_path, max_rank=1).train(asked).update
    for layer in adapted(parameters):
        beyond = update[layer + LORA_B][:, 1:]
        expected = -parameters[layer + LORA_B][:, 1:] if rule == "flexlora" else np.zeros_like(beyond)
        assert np.array_equal(beyond, expected)  # public: known to who sent the parameters
        assert (update[layer + LORA_B][:, 0] != 0).all()  # noise


@pytest.mark.parametrize(("rule", "is_accepted"), [("linear", False), ("fedex", False), ("flexlora", True)])
def test_a_site_refuses_a_rank_that_it_does_not_train(rule: str, is_accepted: bool, tmp_path: Path) -> None:
    study = study_of(rule)
    trainer = trainer_of(tmp_path, max_rank=3)
    if is_accepted:
        trainer.describe(request(study, {}, {}, number=0))
        return
    with pytest.raises(FedFMError, match="SITE-E167"):
        trainer.describe(request(study, {}, {}, number=0))


def bad(frozen: Arrays, change: str) -> Arrays:
    """Frozen arrays that a lying coordinator could send in the place of these."""
    first = min(frozen)
    array = frozen[first]
    if change == "nan":
        return frozen | {first: np.full_like(array, np.nan)}
    if change == "too large":
        return frozen | {first: np.full_like(array, 1.01 * LARGEST_PARAMETER)}
    if change == "product too large":
        return {name: np.full_like(one, 99.0) for name, one in frozen.items()}
    if change == "shape":
        return frozen | {first: np.zeros((3, 3, 3), np.float32)}
    if change == "rank":
        return frozen | {first: np.zeros((len(array), 10_000), np.float32)}
    if change == "missing":
        return {name: one for name, one in frozen.items() if name != first}
    return frozen | {"backbone.embeddings.word_embeddings.weight": np.zeros((2, 2), np.float32)}


REFUSED = [
    *[("ffa_svd", change, "SITE-E132") for change in ("nan", "too large")],
    *[("ffa_svd", change, "WIRE-E01") for change in ("shape", "missing", "another array", "nothing")],
    *[("fedex", change, "SITE-E132") for change in ("nan", "too large", "product too large")],
    *[("fedex", change, "WIRE-E01") for change in ("shape", "rank", "missing", "another array")],
    ("linear", "as it is", "SITE-E166"),
    ("flexlora", "as it is", "SITE-E166"),
]


@pytest.mark.parametrize("rule", STUDIES)
def test_frozen_arrays_that_the_study_does_not_send_are_refused_and_nothing_is_spent(rule: str, tmp_path: Path) -> None:
    study, trainer = study_of(rule), trainer_of(tmp_path)
    parameters, a = start_of(study)
    honest = a if rule == "ffa_svd" else residual(start_of(study_of("fedex"))[0], 2)
    changes = {"nothing": Arrays(), "as it is": honest}
    for _, change, code in [case for case in REFUSED if case[0] == rule]:
        sent = changes[change] if change in changes else bad(honest, change)
        for answer in (trainer.train, trainer.evaluate):
            with pytest.raises(FedFMError, match=code) as caught:
                answer(request(study, parameters, sent))
            assert CANARY not in str(caught.value)
    assert not list((tmp_path / "state").glob("ledger-*"))
    assert trainer.train(request(study, parameters, honest if rule in ("ffa_svd", "fedex") else {})).update


class Spy:
    """What each round combined, as the coordinator saw it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rounds: list[tuple[Arrays, Arrays, dict[str, Arrays], Aggregated, Arrays]] = []
        real = Aggregation.aggregate

        def aggregate(this: Aggregation, parameters: Arrays, updates: Updates, *others: Any) -> Aggregated:
            before = this.frozen
            rows = [updates.named(row.astype(float)) for row in updates.rows()]
            sent = dict(zip(updates.sites, rows, strict=True))
            found = real(this, parameters, updates, *others)
            self.rounds.append((parameters, before, sent, found, this.frozen))  # type: ignore[arg-type]
            return found

        monkeypatch.setattr(Aggregation, "aggregate", aggregate)


def effective(parameters: Mapping[str, Any], frozen: Arrays, layer: str) -> np.ndarray:
    a = parameters[layer + LORA_A] if layer + LORA_A in parameters else frozen[layer + LORA_A]
    found: np.ndarray = parameters[layer + LORA_B].astype(float) @ a.astype(float) + residual_of(frozen, layer)
    return found


@pytest.mark.parametrize("rule", ["ffa_svd", "flexlora", "fedex"])
def test_two_rounds_equal_the_average_of_dense_weights(
    rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the sites' own factors: their dense products, averaged; then truncated where the scheme does."""
    ranks = (4, 2, 1) if rule != "fedex" else (4, 4, 4)
    for index, (name, rank) in enumerate(zip(NAMES, ranks, strict=True)):
        file = write_hospital(tmp_path / "sites" / name, patients=40 + 20 * index, policy=OPEN, name=name)
        declared = f"declared_patients: {40 + 20 * index}\nmax_rank: {rank}\n"
        file.write_text(file.read_text().replace("declared_patients: 60\n", declared))
    spy = Spy(monkeypatch)
    code, output = simulated(tmp_path / "sites", tmp_path / "results", *STUDIES[rule], *SMALL, *OPENLY)
    assert code == 0, output
    assert len(spy.rounds) == 2
    weights, study = np.array([40.0, 60.0, 80.0]) / 180, study_of(rule)
    dense = {layer: effective(spy.rounds[0][0], spy.rounds[0][1], layer) for layer in adapted(spy.rounds[0][0])}
    for before, frozen, sent, found, frozen_after in spy.rounds:
        for layer, known in dense.items():
            assert np.linalg.norm(effective(before, frozen, layer) - known) <= 1e-6 * np.linalg.norm(known)
            each = [
                effective({name: array.astype(float) + update[name] for name, array in before.items()}, frozen, layer)
                for update in sent.values()
            ]
            if rule == "flexlora":
                assert [np.linalg.matrix_rank(one, tol=1e-9) for one in each] == list(ranks)
            mean = sum(weight * one for weight, one in zip(weights, each, strict=True))
            if rule == "flexlora":
                u, s, vt = np.linalg.svd(mean)
                mean = (u[:, :4] * s[:4]) @ vt[:4]
            dense[layer] = effective(found.parameters, frozen_after, layer)
            assert np.linalg.norm(dense[layer] - mean) <= 1e-6 * np.linalg.norm(mean)
    _check_saved(tmp_path / "results" / "latest" / "adapter", study, dense)


def _check_saved(folder: Path, study: Study, dense: Mapping[str, np.ndarray]) -> None:
    """The saved model answers as a backbone with the dense products in its weights."""
    loaded = load_adapter(folder)
    plain = build_model(study.model, replace(study.adapter, method="head"), study.task, seed=study.seed)
    plain.head.load_state_dict(loaded.head.state_dict())
    with torch.no_grad():
        for layer, product in dense.items():
            weight = plain.get_parameter(f"{layer}.weight")
            weight.add_(torch.tensor(study.adapter.alpha / study.adapter.rank * product))
    notes = [Example(str(n), 0, text=text) for n, text in enumerate(["fever and cough", "stable on the ward"])]
    with torch.no_grad():
        assert torch.allclose(loaded(loaded.encode(notes)), plain(plain.encode(notes)), atol=1e-5)

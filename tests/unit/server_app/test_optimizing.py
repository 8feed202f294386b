"""The coordinator's optimisers against Flower's strategies, closed forms, and what a checkpoint keeps of them."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from flwr.app import Array, ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedYogi
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedfm.wire import TrainReply
from server_app.aggregation import Aggregation
from server_app.optimizing import OPTIMIZERS, Moments, Step, adam, momentum, plain, yogi
from server_app.signals import Signals
from server_app.updates import Updates
from tests.unit.server_app.federation import LAYOUT, PARAMETERS, SPENT, study_of

Vector = NDArray[np.float64]
SIZES = {"a": 100, "b": 300}
BETA1, BETA2, TAU, RATE = 0.9, 0.99, 1e-3, 0.05
ADAPTIVE = {"beta1": BETA1, "beta2": BETA2, "tau": TAU, "learning_rate": RATE}


def replies(arrays: dict[str, Vector]) -> list[Message]:
    """What Flower's strategies average: parameters of each site, by number of examples."""
    return [
        Message(
            RecordDict({"arrays": ArrayRecord({"w": Array(arrays[site])}), "m": MetricRecord({"num-examples": size})}),
            reply_to=Message(RecordDict(), node, MessageType.TRAIN),
        )
        for node, (site, size) in enumerate(SIZES.items(), start=1)
    ]


def flower_steps(strategy: FedAvg, before: Vector, updates: list[dict[str, Vector]], prepare: Any) -> list[Vector]:
    """The global parameters after each round of Flower's strategy."""
    found, current = [], before
    for number, update in enumerate(updates, start=1):
        prepare(strategy, current, number)
        after, _ = strategy.aggregate_train(number, replies({site: current + update[site] for site in SIZES}))
        assert after is not None
        current = after["w"].numpy()
        found.append(current)
    return found


def our_steps(optimize: Callable[..., Step], before: Vector, updates: list[dict[str, Vector]]) -> list[Vector]:
    found, current, moments = [], before, {}
    total = sum(SIZES.values())
    for update in updates:
        step = optimize({"w": sum(SIZES[site] / total * update[site] for site in SIZES)}, moments)
        current, moments = current + step.update["w"], step.moments
        found.append(current)
    return found


def _current_record(strategy: Any, current: Vector, number: int) -> None:
    strategy.current_arrays = ArrayRecord({"w": Array(current)})


def _start_as_published(strategy: Any, current: Vector, number: int) -> None:
    strategy.current_arrays = {"w": current}
    if number == 1:
        strategy.v_t = {"w": np.full_like(current, TAU**2)}


def _without_correction(strategy: Any, current: Vector, number: int) -> None:
    """FedAdam lengthens its rate for the start of its moments; take that out again."""
    _start_as_published(strategy, current, number)
    strategy.eta = RATE * (1 - BETA1 ** (number + 1)) / np.sqrt(1 - BETA2 ** (number + 1))


@pytest.mark.parametrize(
    ("strategy", "prepare", "optimize"),
    [
        (
            FedAvgM(server_learning_rate=0.7, server_momentum=0.9),
            _current_record,
            lambda update, moments: momentum(update, moments, momentum=0.9, learning_rate=0.7),
        ),
        (
            FedAdam(eta=RATE, beta_1=BETA1, beta_2=BETA2, tau=TAU),
            _without_correction,
            lambda update, moments: adam(update, moments, **ADAPTIVE),
        ),
        (
            FedYogi(eta=RATE, beta_1=BETA1, beta_2=BETA2, tau=TAU),
            _start_as_published,
            lambda update, moments: yogi(update, moments, **ADAPTIVE),
        ),
    ],
    ids=["momentum", "adam", "yogi"],
)
def test_steps_are_those_of_flower(
    strategy: FedAvg, prepare: Any, optimize: Callable[..., Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("run_id", "node_id", "task_id"):  # Flower makes a message only where it knows whose it is
        monkeypatch.setattr(TaskIdentity, f"_{name}", 1)
    chance = np.random.default_rng(1)
    before = chance.normal(size=6)
    scales = np.array([1e-5, 1e-3, 1e-2, 1e-1, 1.0, 0.0])
    updates = [{site: scales * chance.normal(size=6) for site in SIZES} for _ in range(5)]
    flower, ours = flower_steps(strategy, before, updates, prepare), our_steps(optimize, before, updates)
    np.testing.assert_allclose(ours, flower, rtol=1e-12, atol=1e-14)
    assert np.abs(ours[-1] - before)[:-1].min() > 0


def test_the_first_two_steps_of_adam_and_yogi_by_hand() -> None:
    options = {"beta1": 0.5, "beta2": 0.75, "tau": 1.0, "learning_rate": 2.0}
    for optimize, second_square in ((adam, 0.75 * 1.75 + 0.25 * 0.25), (yogi, 1.75 - 0.25 * 0.25)):
        first = optimize({"w": np.array([2.0])}, {}, **options)
        assert first.moments["first.w"].tolist() == [1.0]
        assert first.moments["second.w"].tolist() == [0.75 * 1 + 0.25 * 4 if optimize is adam else 1 + 0.25 * 4]
        moments = {"first.w": np.array([1.0]), "second.w": np.array([1.75])}
        second = optimize({"w": np.array([0.5])}, moments, **options)
        assert second.moments["second.w"].tolist() == [pytest.approx(second_square)]
        assert second.update["w"].tolist() == [pytest.approx(2 * 0.75 / (np.sqrt(second_square) + 1))]


numbers = st.lists(st.floats(-10, 10), min_size=1, max_size=5).map(np.array)


@given(update=numbers)
def test_momentum_of_nothing_is_the_update_itself(update: Vector) -> None:
    step = momentum({"w": update}, {}, momentum=0.0, learning_rate=1.0)
    again = momentum({"w": update}, step.moments, momentum=0.0, learning_rate=1.0)
    np.testing.assert_array_equal(again.update["w"], plain({"w": update}, {}).update["w"])


@given(update=numbers, rounds=st.integers(1, 8), momentum_=st.floats(0, 0.95))
def test_momentum_of_equal_updates_is_a_geometric_sum(update: Vector, rounds: int, momentum_: float) -> None:
    moments: Moments = {}
    for _ in range(rounds):
        step = momentum({"w": update}, moments, momentum=momentum_, learning_rate=1 - momentum_)
        moments = step.moments
    np.testing.assert_allclose(step.update["w"], (1 - momentum_**rounds) * update, rtol=1e-9, atol=1e-12)


@given(updates=st.lists(st.floats(-10, 10), min_size=1, max_size=8))
def test_squares_stay_positive_and_a_step_stays_within_its_rate(updates: list[float]) -> None:
    for optimize in (adam, yogi):
        moments: Moments = {}
        for update in updates:
            step = optimize({"w": np.array([update])}, moments, **ADAPTIVE)
            moments = step.moments
            assert moments["second.w"][0] > 0
            assert abs(step.update["w"][0]) <= RATE * max(map(abs, updates)) / TAU


@pytest.mark.parametrize("rule", sorted(OPTIMIZERS))
def test_what_an_optimiser_keeps_lies_beside_the_checkpoint(rule: str) -> None:
    aggregation = Aggregation(study_of(f"optimizing={rule}"))
    reply = TrainReply("a", 1, LAYOUT, {}, 60, 4, 0.5, SPENT)
    with Updates(PARAMETERS, Path(tempfile.gettempdir())) as updates:
        updates.append("a", {name: np.full_like(array, 0.5) for name, array in PARAMETERS.items()})
        aggregated = aggregation.aggregate(PARAMETERS, updates, {"a": reply}, Signals(positive=1))
    kept = aggregation.kept()
    moved = aggregated.parameters["head.bias"] - PARAMETERS["head.bias"]
    assert (moved > 0).all()
    arrays = safetensors.numpy.load(kept["rules.safetensors"]) if "rules.safetensors" in kept else {}
    assert {array.dtype for array in arrays.values()} <= {np.dtype(np.float64)}
    kinds = {"none": [], "momentum": ["velocity"], "adam": ["first", "second"], "yogi": ["first", "second"]}[rule]
    assert set(arrays) == {f"moments.{kind}.{name}" for kind in kinds for name in PARAMETERS}

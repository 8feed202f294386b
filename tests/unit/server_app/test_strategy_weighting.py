"""Weighting rules in the coordinator's loop."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from server_app.report import events
from server_app.simulate import InProcessGrid
from tests.unit.server_app.federation import PARAMETERS, Hospital, changed, client_app, federate

FOUR = ("a1", "b1", "c1", "d1")


@pytest.mark.parametrize(
    ("weighting", "patients", "examples"),
    [
        (["weighting=uniform"], (60, 7, 900, 31), (1, 1, 1, 1)),
        (["weighting=cohort"], (60, 7, 900, 31), (60, 7, 900, 31)),
        (["weighting=power", "weighting.params.q=0"], (60, 7, 900, 31), (60, 7, 900, 31)),
    ],
)
def test_where_they_should_agree_the_result_is_flowers_own_fedavg(
    weighting: list[str], patients: tuple[int, ...], examples: tuple[int, ...], tmp_path: Path
) -> None:
    """The same replies through Flower's aggregate_train, which averages parameters instead of updates."""
    chance = np.random.default_rng(3)
    moves = {name: chance.normal(size=(2, 3)).astype(np.float32) for name in FOUR}

    def moved(name: str, size: int) -> Hospital:
        return Hospital(size, train=lambda reply: changed(update={**reply.update, "head.weight": moves[name]})(reply))

    hospitals = {name: moved(name, size) for name, size in zip(FOUR, patients, strict=True)}
    outcome = federate(hospitals, tmp_path, "rounds=1", *weighting)
    grid = InProcessGrid(client_app({}), {})
    replies = []
    for name, count in zip(FOUR, examples, strict=True):
        after = {"head.weight": PARAMETERS["head.weight"] + moves[name], "head.bias": PARAMETERS["head.bias"] + 1}
        record = ArrayRecord({key: Array(np.asarray(array)) for key, array in after.items()})
        asked = grid.create_message(RecordDict(), "train", 2, "1")
        content = RecordDict({"arrays": record, "metrics": MetricRecord({"num-examples": count})})
        replies.append(Message(content, reply_to=asked))
    theirs, _ = FedAvg().aggregate_train(1, replies)
    assert theirs is not None
    assert outcome.parameters is not None
    for name, array in theirs.items():
        np.testing.assert_allclose(outcome.parameters[name], array.numpy(), rtol=1e-6, atol=1e-7)


def test_a_hospital_that_is_served_worse_counts_for_more_from_the_next_round_on(tmp_path: Path) -> None:
    """The default rule: round 1 by cohort, for nothing has been told; then by the audit loss of each."""
    exact: dict[str, Any] = {"losses_sd": 0.0}
    worse = Hospital(evaluate=changed(losses={"loss": 6.0, "patients": 10.0}, **exact))
    better = Hospital(evaluate=changed(losses={"loss": 3.0, "patients": 10.0}, **exact))
    silent = Hospital(evaluate=changed(losses={}, **exact))
    outcome = federate({"a1": worse, "b1": better, "c1": silent, "d1": silent}, tmp_path, "rounds=2", "privacy=none")
    first, second = (event.weights for event in outcome.of(events.RoundCombined))
    assert first == dict.fromkeys(FOUR, 0.25)
    assert second == pytest.approx({"a1": 1 / 3, "b1": 1 / 6, "c1": 0.25, "d1": 0.25})


def test_what_a_rule_keeps_lies_beside_the_checkpoint(tmp_path: Path) -> None:
    federate({name: Hospital() for name in FOUR}, tmp_path, "rounds=2", "weighting=dro")
    files = json.loads((tmp_path / "checkpoint.json").read_text())["files"]
    (name,) = (file for file in files if file.endswith("rules.json"))
    kept = json.loads((tmp_path / name).read_text())["weighting"]
    assert set(kept["multiples"]) == set(FOUR)

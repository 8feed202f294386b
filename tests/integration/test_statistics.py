"""The site's half of the statistics: bounded by patient, charged first and once, the same by either way out."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch

from client_app import statistics
from client_app.cohorts import Prepared, prepare
from client_app.ledger import Ledger
from client_app.site import agreed_plan
from client_app.trainer.connect import SocketTrainer
from client_app.trainer.messages import request_to_proto
from client_app.trainer.trainer_pb2_grpc import TrainerStub
from client_app.trainer.warm import Trainer
from fedfm.arrays import Arrays
from fedfm.config.compose import load_site, study_from_json
from fedfm.errors import FedFMError
from fedfm.plan import sd
from fedfm.statistics import bound, width
from fedfm.wire import Request
from tests.integration.conftest import CANARY, request, write_hospital

Serve = Callable[[Path], Path]
GLOBAL = ("standardize=global",)
OPEN = "allow_no_privacy: true\n  allow_exact_evaluation: true\n  small_cells: none"
WIDTH = 32  # of the tiny model's states


def trainer_of(folder: Path, *, policy: str = "") -> Trainer:
    return Trainer(load_site(write_hospital(folder, policy=policy)))


def start_of(trainer: Trainer, *overrides: str) -> Arrays:
    return prepare(trainer.site, study_from_json(request(0, {}, *overrides).study)).start


def with_statistics(asked: Request, **change: np.ndarray) -> Request:
    given = {"mean": np.zeros(WIDTH, np.float32), "scale": np.ones(1, np.float32)} | change
    return replace(asked, statistics=given)


def charges(trainer: Trainer) -> list[tuple[str, str, int]]:
    return [(charge.split, charge.purpose, charge.round) for charge in trainer.ledger.charges()]


def test_sums_are_charged_once_and_sent_again_as_they_are(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "a")
    one = trainer.summarise(request(0, {}, *GLOBAL))
    assert charges(trainer) == [("train", "statistics", 0)]
    assert 0.55 < one.privacy.run <= 0.6  # a fifth of epsilon = 3
    again = Trainer(trainer.site).summarise(request(0, {}, *GLOBAL))  # after a restart too
    assert np.array_equal(again.sums, one.sums)
    assert len(charges(trainer)) == 1
    trainer.summarise(request(0, {}, *GLOBAL, run="run-2"))
    trainer.summarise(request(0, {}, *GLOBAL, "privacy.epsilon=2"))  # another study under the name of the first
    assert len(charges(trainer)) == 3


def test_another_study_in_one_run_has_noised_sums_of_its_own(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "a")
    for cap in (4.0, 2.0):  # a table of the first study could have other groups, or less noise
        asked = ("reweighting=kamiran_calders", f"reweighting.params.cap={cap}", "task.groups=[sex]", "rounds=9")
        trainer.train(request(1, start_of(trainer, *asked), *asked))
    assert [purpose for _, purpose, _ in charges(trainer)].count("reweighting") == 2


def test_the_whole_run_stays_within_epsilon(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "a")
    trainer.summarise(request(0, {}, *GLOBAL))
    start = start_of(trainer, *GLOBAL)
    for number in (1, 2, 3):
        reply = trainer.train(with_statistics(request(number, start, *GLOBAL)))
    assert reply.privacy.run == pytest.approx(reply.privacy.planned, rel=1e-3)
    assert 2.9 < reply.privacy.run <= 3.0
    other = {name: array + np.float32(1e-6) for name, array in start.items()}
    with pytest.raises(FedFMError, match="SITE-E104"):
        trainer.train(with_statistics(request(3, other, *GLOBAL)))


def test_the_ledger_is_charged_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(tmp_path / "a")

    def crash(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(statistics, "exact_sums", crash)
    with pytest.raises(MemoryError):
        trainer.summarise(request(0, {}, *GLOBAL))
    assert charges(trainer) == [("train", "statistics", 0)]
    assert not list((tmp_path / "a" / "state").glob("statistics-*"))


def test_noise_has_the_planned_size(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "a", policy="max_epsilon: 20.0")
    asked = request(0, {}, *GLOBAL)
    study = study_from_json(asked.study)
    exact = statistics.exact_sums(study, prepare(trainer.site, study), micro_batch=16)
    drawn = []
    for number in range(12):
        reply = trainer.summarise(replace(asked, run=f"run-{number}"))
        drawn += (reply.sums - exact).tolist()
    release = agreed_plan(trainer.site, study).statistics
    assert release is not None
    expected = sd(release) * bound(study)
    assert reply.sums_sd == pytest.approx(expected)
    assert exact.size == width(study, inputs=WIDTH)
    assert np.std(drawn) == pytest.approx(expected, rel=4 / math.sqrt(2 * len(drawn)))


def moved_states(prepared: Prepared, unit: int, value: float) -> Prepared:
    states = list(prepared.train.states)
    for index in prepared.train.units[unit]:
        states[index] = torch.full_like(states[index], value)
    return replace(prepared, train=replace(prepared.train, states=states))


@pytest.mark.parametrize("value", [0.0, 1.0, -1e30, math.inf, math.nan])
def test_one_patient_moves_the_sums_by_at_most_the_bound(value: float, tmp_path: Path) -> None:
    site = load_site(write_hospital(tmp_path / "a"))
    study = study_from_json(request(0, {}, *GLOBAL).study)
    prepared = prepare(site, study)
    extreme = moved_states(prepared, 1, value)
    without = replace(extreme, train=replace(extreme.train, units=[*extreme.train.units[:1], *extreme.train.units[2:]]))
    assert len(extreme.train.units[1]) > 1 or len(extreme.train.units[0]) > 1
    found = [statistics.exact_sums(study, each, micro_batch=7) for each in (extreme, without)]
    assert 0 < np.linalg.norm(found[0] - found[1]) <= bound(study) * (1 + 1e-9)


def test_what_the_last_request_left_in_the_model_does_not_change_the_sums(tmp_path: Path) -> None:
    """With LoRA the states run through layers that a coordinator could have prepared."""
    adapter = "adapter=ffa_lora", "adapter.layers=1", *GLOBAL, "privacy=none", "evaluation=exact"
    asked = request(0, {}, *adapter)
    fresh = trainer_of(tmp_path / "a", policy=OPEN)
    used = trainer_of(tmp_path / "b", policy=OPEN)
    hostile = {name: np.full_like(array, 5.0) for name, array in start_of(used, *adapter).items()}
    used.train(with_statistics(request(1, hostile, *adapter), mean=np.full(WIDTH, 9, np.float32)))
    np.testing.assert_allclose(used.summarise(asked).sums, fresh.summarise(asked).sums, rtol=1e-5, atol=1e-5)


def test_a_socket_and_one_process_give_the_same_sums_and_updates(tmp_path: Path, serve_here: Serve) -> None:
    openly = *GLOBAL, "privacy=none", "evaluation=exact"
    near = trainer_of(tmp_path / "a", policy=OPEN)
    far = SocketTrainer(str(serve_here(write_hospital(tmp_path / "b", policy=OPEN))))
    sums = [trainer.summarise(request(0, {}, *openly)).sums for trainer in (near, far)]
    assert np.array_equal(sums[0], sums[1])
    asked = with_statistics(request(1, start_of(near, *openly), *openly), mean=np.full(WIDTH, 0.5, np.float32))
    updates = [trainer.train(asked).update for trainer in (near, far)]
    assert all(np.array_equal(updates[0][name], updates[1][name]) for name in updates[0])


HOSTILE = {
    "none at all": ({}, "SITE-E161"),
    "not a number": ({"mean": np.full(WIDTH, np.nan, np.float32)}, "WIRE-E014"),
    "far away": ({"mean": np.full(WIDTH, 1e30, np.float32)}, "WIRE-E014"),
    "a scale of zero": ({"scale": np.zeros(1, np.float32)}, "WIRE-E014"),
    "of another model": ({"mean": np.zeros(3, np.float32)}, "WIRE-E011"),
    "of another name": ({"more": np.zeros(3, np.float32)}, "WIRE-E010"),
}


def test_hostile_statistics_are_refused_and_nothing_is_spent(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "a")
    plain = request(1, start_of(trainer, *GLOBAL), *GLOBAL)
    for change, code in HOSTILE.values():
        asked = with_statistics(plain, **change) if change else plain
        for ask in (trainer.train, trainer.evaluate):
            with pytest.raises(FedFMError, match=code):
                ask(asked)
    assert charges(trainer) == []


def test_sums_leave_only_where_the_study_says_so(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "a")
    start = start_of(trainer)
    for method in ("reference", "site", "none"):
        with pytest.raises(FedFMError, match="SITE-E160"):
            trainer.summarise(request(0, {}, f"standardize={method}"))
        with pytest.raises(FedFMError, match="SITE-E161"):
            trainer.train(with_statistics(request(1, start, f"standardize={method}")))
    assert charges(trainer) == []


def test_a_sites_own_statistics_are_charged_once_and_stay(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "a")
    own = ("standardize=site",)
    start = start_of(trainer, *own)
    reply = trainer.train(request(1, start, *own))
    trainer.train(request(2, start, *own))
    trainer.evaluate(request(2, start, *own))
    assert [charge[1] for charge in charges(trainer)] == ["statistics", "training", "training", "evaluation", "loss"]
    assert reply.privacy.planned <= 3.0
    assert set(reply.update) == set(start)
    (kept,) = (tmp_path / "a" / "state").glob("statistics-*.json")
    assert len(json.loads(kept.read_text())) == width(study_from_json(request(0, {}, *own).study), inputs=WIDTH)
    prepared = trainer._warm
    assert prepared is not None
    assert float(prepared[1].model.standard.mean.abs().max()) > 0


def test_no_canary_leaves_with_the_sums(tmp_path: Path, serve_here: Serve) -> None:
    spoilt: dict[str, Callable[[str], str]] = {
        "good": lambda text: text,
        "one class": lambda text: text.replace("deteriorated", "recovered"),
        "labels": lambda text: text.replace(",recovered,", f",{CANARY}-label,"),
    }
    for name, spoil in spoilt.items():
        site_file = write_hospital(tmp_path / name)
        table = site_file.parent / "cohort.csv"
        table.write_text(spoil(table.read_text()))
        with grpc.insecure_channel(f"unix:{serve_here(site_file)}") as channel:
            answer = TrainerStub(channel).Summarise(request_to_proto(request(0, {}, *GLOBAL)))
        assert (answer.WhichOneof("answer") == "refusal") == (name != "good")
        assert CANARY.encode() not in answer.SerializeToString()
        lines = [json.loads(line) for line in (tmp_path / name / "state" / "audit.jsonl").read_text().splitlines()]
        assert [line["kind"] for line in lines] == ["Summarise", "SummariseAnswer"]


def test_a_policy_against_open_studies_refuses_open_sums(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "a")
    with pytest.raises(FedFMError, match="SITE-E103"):
        trainer.summarise(request(0, {}, *GLOBAL, "privacy=none"))
    assert Ledger(tmp_path / "a" / "state", "hospital-a").charges() == []

"""A question is answered once: repeated, it brings the same answer and no charge; a killed answer costs once."""

import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client_app import releases, rounds
from client_app.ledger import ledger_of
from client_app.trainer import answered, connect
from client_app.trainer.answered import EVALUATE, TRAIN
from client_app.trainer.connect import SocketTrainer
from client_app.trainer.warm import Trainer
from fedfm.arrays import Arrays
from fedfm.config.compose import load_site, study_from_json
from fedfm.errors import DataError, EngineError, FedFMError
from fedfm.model.build import build_model
from fedfm.parameters import trainable
from fedfm.wire import TrainReply
from tests.integration.conftest import request, study_json, write_hospital

OVERRIDES = ("rounds=3", "privacy.epsilon=3")


@pytest.fixture(scope="module")
def start() -> Arrays:
    study = study_from_json(study_json(*OVERRIDES))
    return trainable(build_model(study.model, study.adapter, study.task, seed=study.seed))


class Killed(BaseException):
    """As nothing else runs after ``kill -9``."""


class Hospital:
    """A trainer that is started anew for each question, as after a restart."""

    def __init__(self, folder: Path) -> None:
        self.file = write_hospital(folder)

    @property
    def trainer(self) -> Trainer:
        return Trainer(load_site(self.file))

    @property
    def charged(self) -> list[tuple[int, str]]:
        return [(charge.round, charge.purpose) for charge in ledger_of(load_site(self.file)).charges()]

    @property
    def answers(self) -> list[Path]:
        return sorted((self.file.parent / "state").glob("answer-*.bin"))


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path / "a")


def same(one: Any, other: Any) -> bool:
    """Whether two replies say the same, but for what has been spent meanwhile."""
    return packed(replace(other, privacy=one.privacy)) == packed(one)


def packed(reply: Any) -> bytes:
    kind = TRAIN if isinstance(reply, TrainReply) else EVALUATE
    data: bytes = kind.pack(reply).SerializeToString(deterministic=True)
    return data


@pytest.mark.parametrize("call", ["train", "evaluate"])
def test_the_same_question_brings_the_same_answer_and_no_charge(call: str, hospital: Hospital, start: Arrays) -> None:
    asked = request(1, start, *OVERRIDES)
    first = getattr(hospital.trainer, call)(asked)
    charged = hospital.charged
    again = getattr(hospital.trainer, call)(asked)
    assert same(first, again)
    assert hospital.charged == charged
    assert again.privacy.train == first.privacy.train


def test_any_other_question_is_charged(hospital: Hospital, start: Arrays) -> None:
    asked = request(1, start, *OVERRIDES)
    first = hospital.trainer.train(asked)
    moved = {name: array + np.float32(1e-6) for name, array in start.items()}
    second = hospital.trainer.train(request(1, moved, *OVERRIDES))
    assert not same(first, second)
    assert hospital.charged == [(1, "training"), (1, "training")]
    hospital.trainer.train(request(1, start, *OVERRIDES, run="run-2"))
    assert len(hospital.charged) == 3


@pytest.mark.parametrize("call", ["train", "evaluate"])
@pytest.mark.parametrize("where", ["while it computes", "before it is kept", "before it is noted", "before it leaves"])
def test_a_trainer_killed_anywhere_has_charged_once_for_the_answer_that_leaves(
    call: str, where: str, hospital: Hospital, start: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise Killed

    def after(function: Callable[..., Any]) -> Callable[..., Any]:
        def done(*arguments: Any, **named: Any) -> None:
            function(*arguments, **named)
            raise Killed

        return done

    asked, trainer = request(1, start, *OVERRIDES), hospital.trainer
    if where == "while it computes":
        monkeypatch.setattr(rounds, "fine_tune", killed)
        monkeypatch.setattr(releases, "_audit", killed)
    elif where == "before it is kept":
        monkeypatch.setattr(answered, "keep_answer", killed)
    elif where == "before it is noted":
        monkeypatch.setattr(trainer.ledger, "answered", killed)
    else:
        monkeypatch.setattr(trainer.ledger, "answered", after(trainer.ledger.answered))
    with pytest.raises(Killed):
        getattr(trainer, call)(asked)
    monkeypatch.undo()
    assert hospital.charged, "it is charged before anything is computed"
    reply = getattr(hospital.trainer, call)(asked)
    assert len(set(hospital.charged)) == len(hospital.charged)
    assert same(reply, getattr(hospital.trainer, call)(asked))


def test_two_processes_asked_at_once_give_one_answer_on_one_charge(hospital: Hospital, start: Arrays) -> None:
    twins, asked = (hospital.trainer, hospital.trainer), request(1, start, *OVERRIDES, "training.local_steps=40")
    with futures.ThreadPoolExecutor(2) as both:
        one, other = both.map(lambda trainer: trainer.train(asked), twins)
    assert same(one, other)
    assert hospital.charged == [(1, "training")]


def test_an_answer_made_under_another_policy_is_not_said_again(hospital: Hospital, start: Arrays) -> None:
    asked = request(1, start, *OVERRIDES)
    first = hospital.trainer.train(asked)
    text = hospital.file.read_text()
    hospital.file.write_text(text.replace("policy:", "policy:\n  max_rounds: 9", 1))
    assert not same(first, hospital.trainer.train(asked))
    assert len(hospital.charged) == 2


def test_a_refusal_uses_the_charge_up(hospital: Hospital, start: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise DataError("SITE-E163", "cannot be kept")

    asked = request(1, start, *OVERRIDES)
    monkeypatch.setattr(rounds, "fine_tune", failing)
    with pytest.raises(FedFMError):
        hospital.trainer.train(asked)
    monkeypatch.undo()
    hospital.trainer.train(asked)
    assert hospital.charged == [(1, "training"), (1, "training")]


def test_an_answer_whose_file_is_lost_or_damaged_is_given_anew_and_charged(hospital: Hospital, start: Arrays) -> None:
    asked = request(1, start, *OVERRIDES)
    first = hospital.trainer.train(asked)
    (file,) = hospital.answers
    file.write_bytes(file.read_bytes()[:40])
    second = hospital.trainer.train(asked)
    assert not same(first, second)
    assert hospital.charged == [(1, "training"), (1, "training")]


def test_answers_of_the_last_two_rounds_are_kept_for_their_owner_alone(hospital: Hospital, start: Arrays) -> None:
    trainer = hospital.trainer
    for number in (1, 2, 3):
        trainer.train(request(number, start, *OVERRIDES))
    assert [path.name.split("-")[2] for path in hospital.answers] == ["00002", "00003"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in hospital.answers)


def test_a_question_killed_in_a_real_process_is_answered_by_the_next_on_the_same_charge(
    tmp_path: Path, start: Arrays, start_trainer: Any
) -> None:
    """kill -9 as soon as the charge is on disk; the steps are many, so that it is still training. Nobody asks again."""
    slow = (*OVERRIDES, "training.local_steps=400")
    site_file = write_hospital(tmp_path / "a")
    ledger = ledger_of(load_site(site_file))
    first = start_trainer(site_file)
    with futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(SocketTrainer(str(first.socket)).train, request(1, start, *slow))
        while not ledger.charges():
            time.sleep(0.005)
        first.kill()
        start_trainer(site_file, first.socket)
        reply = asked.result(timeout=120)
    assert reply.round == 1
    assert [charge.purpose for charge in ledger.charges()] == ["training"]


def test_a_trainer_that_nobody_starts_again_is_named(
    tmp_path: Path, start: Arrays, start_trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "_RESTART_SECONDS", 0.5)
    site_file = write_hospital(tmp_path / "a")
    ledger, first = ledger_of(load_site(site_file)), start_trainer(site_file)
    with futures.ThreadPoolExecutor(1) as pool:
        slow = (*OVERRIDES, "training.local_steps=400")
        lost = pool.submit(SocketTrainer(str(first.socket)).train, request(1, start, *slow))
        while not ledger.charges():
            time.sleep(0.005)
        first.kill()
        with pytest.raises(EngineError, match="SITE-E153"):
            lost.result(timeout=60)


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
@pytest.mark.parametrize("call", ["train", "evaluate"])
def test_too_little_memory_halves_the_micro_batch_once_and_changes_no_charge(
    call: str, error: type[Exception], hospital: Hospital, start: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def scarce(real: Callable[..., Any]) -> Callable[..., Any]:
        def limited(asked: Any, *arguments: Any, **named: Any) -> Any:
            sizes.append(asked.prepared.micro_batch)
            if len(sizes) == 1:
                raise error
            return real(asked, *arguments, **named)

        return limited

    monkeypatch.setattr(rounds, "fine_tune", scarce(rounds.fine_tune))
    monkeypatch.setattr(releases, "_audit", scarce(releases._audit))
    asked = request(1, start, *OVERRIDES)
    reply = getattr(hospital.trainer, call)(asked)
    assert sizes == [sizes[0], sizes[0] // 2]
    assert len(set(hospital.charged)) == len(hospital.charged) > 0
    assert same(reply, getattr(hospital.trainer, call)(asked))


def test_a_trainer_that_was_killed_takes_smaller_steps_the_next_time(
    hospital: Hospital, start: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def killed(asked: Any, *_: object, **__: object) -> None:
        sizes.append(asked.prepared.micro_batch)
        raise Killed

    monkeypatch.setattr(rounds, "fine_tune", killed)
    for _ in range(2):
        with pytest.raises(Killed):
            hospital.trainer.train(request(1, start, *OVERRIDES))
    assert sizes == [sizes[0], sizes[0] // 2]

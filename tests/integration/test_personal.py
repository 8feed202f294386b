"""A personal model stays at the hospital, and nothing that leaves knows of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from client_app import noise, personal, rounds
from client_app.personal import draw
from client_app.trainer.warm import Trainer
from client_app.training import Cohort, open_steps, trained
from fedfm.arrays import Arrays, from_bytes
from fedfm.config.compose import compose_study, load_site
from fedfm.config.study import Training
from fedfm.errors import DataError
from fedfm.model.build import build_model
from fedfm.parameters import trainable
from fedfm.wire import EvaluateReply, TrainReply
from tests.integration.conftest import TINY, request, write_hospital

DITTO = ("personal=ditto",)
OPEN = "allow_no_privacy: true\n  small_cells: none"
SAMPLED = ("privacy=none", "training.sample_rate=0.5")


@pytest.fixture(scope="module")
def start() -> Arrays:
    study = compose_study(TINY).value
    return trainable(build_model(study.model, study.adapter, study.task, seed=study.seed))


@contextmanager
def known_noise() -> Iterator[None]:
    """The noise of each training is the same, whoever trains: for two sites that must not differ."""
    generator = np.random.default_rng(7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "secure_normal", lambda count: generator.normal(size=count))
        yield


def run(folder: Path, start: Arrays, *overrides: str) -> tuple[list[TrainReply], EvaluateReply]:
    """Two rounds of a federation of one, and the closing evaluation."""
    trainer, parameters, replies = Trainer(load_site(write_hospital(folder, policy=OPEN))), start, []
    with known_noise():
        for number in (1, 2):
            replies.append(trainer.train(request(number, parameters, *overrides)))
            update = replies[-1].update
            parameters = {name: parameters[name] + update[name] for name in parameters}
        return replies, trainer.evaluate(request(3, parameters, *overrides))


def told(reply: Any) -> dict[str, Any]:
    """All that a reply says, but for the time that it took and the ledger's seal, which holds a time too."""
    return vars(replace(reply, seconds=0.0, privacy=replace(reply.privacy, seal="")))


def check_nothing_that_leaves_knows(folder: Path, start: Arrays, *overrides: str) -> None:
    with_, without = (
        run(folder / name, start, *overrides, f"personal={name}", "explainability=none") for name in ("ditto", "none")
    )
    for one, other in zip((*with_[0], with_[1]), (*without[0], without[1]), strict=True):
        np.testing.assert_equal(told(one), told(other))
    assert list((folder / "ditto" / "state").glob("personal-*"))
    assert not list((folder / "none" / "state").glob("personal-*"))


@pytest.mark.parametrize("overrides", [(), SAMPLED, (*SAMPLED, "privacy.max_grad_norm=null")], ids=str)
def test_answers_are_bit_for_bit_those_of_a_study_without_personal_models(
    overrides: tuple[str, ...], tmp_path: Path, start: Arrays
) -> None:
    check_nothing_that_leaves_knows(tmp_path, start, *overrides)


def trained_first(patch: pytest.MonkeyPatch) -> None:
    """The update goes on from the personal model, which is not put back."""
    fine_tune, load = rounds.fine_tune, personal.load_trainable

    def after(asked: Any, cohort: Any, **how: Any) -> None:
        loads: list[int] = []

        def load_but_for_the_last(*of: Any) -> None:
            loads.append(1)
            if len(loads) < 3:
                load(*of)

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(personal, "load_trainable", load_but_for_the_last)
            personal.train_beside(asked, cohort)
        fine_tune(asked, cohort, **how)

    patch.setattr(rounds, "fine_tune", after)


def charged(patch: pytest.MonkeyPatch) -> None:
    beside = personal.train_beside

    def paid(asked: Any, cohort: Any) -> None:
        if asked.study.personal.method != "none":
            asked.charge("train", "training", replace(asked.plan.training, noise_multiplier=1e4))
        beside(asked, cohort)

    patch.setattr(personal, "train_beside", paid)


@pytest.mark.parametrize("fault", [trained_first, charged])
def test_a_personal_model_that_shows_is_caught(
    fault: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, start: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        check_nothing_that_leaves_knows(tmp_path, start)


def kept(folder: Path) -> Arrays:
    (path,) = (folder / "state").glob("personal-*.safetensors")
    assert path.stat().st_mode & 0o777 == 0o600
    return from_bytes(path.read_bytes())


def test_it_goes_on_over_restarts_where_it_was_and_only_its_own_run_has_it(tmp_path: Path, start: Arrays) -> None:
    found = []
    for name in ("restarted", "warm"):
        file = write_hospital(tmp_path / name)
        trainer = Trainer(load_site(file))
        for number in (1, 2):
            trainer = Trainer(load_site(file)) if name == "restarted" else trainer
            trainer.train(request(number, start, *DITTO))  # full batches: no coin and no noise is in it
            found.append(kept(tmp_path / name))
    first, second, warm_first, warm_second = found
    np.testing.assert_equal(first, warm_first)
    np.testing.assert_equal(second, warm_second)
    assert any((first[name] != second[name]).any() for name in start)
    trainer.train(request(1, start, *DITTO, "privacy.epsilon=1", run="run-2"))
    assert len(list((tmp_path / "warm" / "state").glob("personal-*.safetensors"))) == 2


def test_a_damaged_personal_model_is_named(tmp_path: Path, start: Arrays) -> None:
    trainer = Trainer(load_site(write_hospital(tmp_path)))
    trainer.train(request(1, start, *DITTO))
    (path,) = (tmp_path / "state").glob("personal-*.safetensors")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"SITE-E165.*personal-"):
        trainer.train(request(2, start, *DITTO))


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Arrays
) -> None:
    trainer = Trainer(load_site(write_hospital(tmp_path)))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("client_app.own_files.os.fdopen", full)
    with pytest.raises(DataError, match=r"SITE-E163.*No space left"):
        trainer.train(request(1, start, *DITTO))


class Softmax(nn.Module):
    """Three classes on four numbers, from zero."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, states: list[Tensor]) -> Tensor:
        found: Tensor = self.head(torch.stack(states))
        return found


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.05, 0.5, 4.0])
def test_pulled_to_zero_it_is_scikit_learns_ridge_logistic_regression(weight: float) -> None:
    """Ditto's objective with w = 0: mean loss + weight / 2 * |v|^2. With a step of 1, the last weight is past where
    the explicit step of the paper runs away."""
    generator = np.random.default_rng(3)
    inputs = generator.normal(size=(60, 4)).astype(np.float32)
    labels = (inputs @ generator.normal(size=(4, 3)) + generator.normal(size=(60, 3))).argmax(axis=1)
    cohort = Cohort(
        [torch.from_numpy(row) for row in inputs],
        torch.from_numpy(labels),
        [np.array([i]) for i in range(60)],
        torch.ones(60),
    )
    model: Any = Softmax()
    parameters, zero = trained(model)
    training = Training(local_steps=600, learning_rate=1.0, momentum=0.0)
    for _ in open_steps(model, cohort, training=training, micro_batch=64, uniform=generator.random):
        draw(parameters, zero, length=training.learning_rate * weight)
    reference = LogisticRegression(C=1 / (60 * weight), fit_intercept=False, tol=1e-10, max_iter=5000)
    expected = reference.fit(inputs.astype(np.float64), labels).coef_
    np.testing.assert_allclose(model.head.weight.detach().numpy(), expected, atol=2e-4)


def test_a_pull_of_zero_is_the_site_alone_and_a_large_one_holds_it_at_the_received(
    tmp_path: Path, start: Arrays
) -> None:
    away = {}
    for pull in (0, 1, 100):
        trainer = Trainer(load_site(write_hospital(tmp_path / str(pull))))
        trainer.train(request(1, start, *DITTO, f"personal.pull={pull}"))
        found = kept(tmp_path / str(pull))
        away[pull] = sum(float(np.abs(found[name] - start[name]).sum()) for name in start)
    assert away[0] > away[1] > away[100] > 0
    assert away[100] < 0.02 * away[0]

"""How long a hospital's trainer may be kept busy by one request."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client_app import personal
from client_app.trainer import warm
from client_app.trainer.connect import SocketTrainer
from client_app.trainer.service import serve
from client_app.trainer.warm import Trainer
from fedfm.arrays import Arrays
from fedfm.config.compose import compose_study, load_site
from fedfm.errors import FedFMError
from fedfm.model.build import build_model
from fedfm.parameters import trainable
from tests.integration.conftest import TINY, request, write_hospital


@pytest.fixture(scope="session")
def start_parameters() -> Arrays:
    study = compose_study(TINY).value
    return trainable(build_model(study.model, study.adapter, study.task, seed=study.seed))


class Clock:
    """Seconds that pass only when it is looked at."""

    def __init__(self) -> None:
        self.now, self.tick = 0.0, 0.0

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


LONG = "allow_no_privacy: true\n  small_cells: none\n  max_minutes_per_round: 0.5"


@pytest.mark.parametrize(
    ("call", "number", "overrides", "charged"),
    [
        ("train", 1, (), {"training"}),
        ("train", 1, ("privacy=none",), {"training"}),
        ("train", 1, ("privacy=none", "privacy.max_grad_norm=null", "training.learning_rate=0.1"), {"training"}),
        ("train", 1, ("personal=ditto",), {"training"}),
        ("evaluate", 3, ("baseline=alone",), {"evaluation", "groups", "loss", "explanation", "alone"}),
    ],
)
def test_a_round_beyond_its_minutes_is_ended_and_charged_and_the_next_is_answered(
    tmp_path: Path, start_parameters: Arrays, call: str, number: int, overrides: tuple[str, ...], charged: set[str]
) -> None:
    site_file, clock = write_hospital(tmp_path / "a", policy=LONG), Clock()
    trainer = Trainer(load_site(site_file), clock=clock)
    server = serve(trainer, tmp_path / "t.sock")
    try:
        asked = SocketTrainer(str(tmp_path / "t.sock"))
        clock.tick = 9.0  # four steps: 36 seconds
        with pytest.MonkeyPatch.context() as patch:
            if "personal=ditto" in overrides:  # only the site's own model takes too long, after the update is made
                clock.tick = 0.0
                patch.setattr("client_app.rounds.personal.train_beside", slowed(personal.train_beside, clock))
            with pytest.raises(FedFMError, match=r"SITE-E223 .* max_minutes_per_round 0\.5"):
                getattr(asked, call)(request(number, start_parameters, *overrides))
        assert {charge.purpose for charge in trainer.ledger.charges()} - {"check"} == charged
        assert trainer._warm is not None
        model = trainer._warm[1].model
        assert all(getattr(p, name, None) is None for p in model.parameters() for name in ("grad", "summed_grad"))
        clock.tick = 3.0  # at most eight steps: 24 seconds
        assert asked.train(request(1, start_parameters, *overrides, run="run-2")).site == "hospital-a"
    finally:
        server.stop(grace=None).wait()


@pytest.mark.parametrize(
    ("call", "number", "overrides", "tick"),
    [
        ("train", 1, ("personal=ditto",), 5.0),  # four steps for all and four beside: each 20 seconds, and 40 together
        ("evaluate", 3, ("baseline=alone",), 4.0),  # four steps in each of three rounds: each 16 seconds
    ],
)
def test_all_that_one_request_trains_has_the_minutes_of_one_round(
    tmp_path: Path, start_parameters: Arrays, call: str, number: int, overrides: tuple[str, ...], tick: float
) -> None:
    clock = Clock()
    policy = f"{LONG}\n  max_epsilon: 9"
    trainer = Trainer(load_site(write_hospital(tmp_path / "a", policy=policy)), clock=clock)
    clock.tick = tick
    with pytest.raises(FedFMError, match="SITE-E223"):
        getattr(trainer, call)(request(number, start_parameters, *overrides))
    clock.tick = tick / 2
    assert getattr(trainer, call)(request(number, start_parameters, *overrides, run="run-2")).site == "hospital-a"


def test_who_spends_the_minutes_on_loading_trains_nothing_and_is_charged_nothing(
    tmp_path: Path, start_parameters: Arrays
) -> None:
    clock = Clock()
    trainer = Trainer(load_site(write_hospital(tmp_path / "a", policy=LONG)), clock=clock)
    with pytest.MonkeyPatch.context() as patch:
        loaded = warm.prepare
        patch.setattr(warm, "prepare", lambda *asked: (setattr(clock, "now", 31.0), loaded(*asked))[1])
        with pytest.raises(FedFMError, match="SITE-E223"):
            trainer.train(request(1, start_parameters))
    assert trainer.ledger.charges() == []
    assert trainer.train(request(1, start_parameters)).site == "hospital-a"  # now it is loaded


def slowed(train: Callable[..., None], clock: Clock) -> Callable[..., None]:
    def slowly(*arguments: Any) -> None:
        clock.tick = 9.0
        train(*arguments)

    return slowly

"""The ledger of a trainer over rounds, restarts and skipped rounds: what was done, no less, and before it is done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from opacus.accountants import PRVAccountant

import fedfm.plan
from client_app import (
    baseline,
    group_counts,
    loss_weights,
    private_step,
    releases,
    rounds,
    statistics,
)
from client_app.asked import Round
from client_app.cohorts import prepare
from client_app.ledger import Ledger
from client_app.reasons import before_sending, explained
from client_app.trainer.connect import SocketTrainer
from client_app.trainer.warm import Trainer
from fedfm.arrays import Arrays
from fedfm.config.compose import compose_study, load_site, study_from_json
from fedfm.errors import FedFMError
from fedfm.model.build import build_model
from fedfm.parameters import trainable
from fedfm.plan import Plan
from fedfm.wire import PrivacySpent
from tests.integration.conftest import TINY, TrainerProcess, request, write_hospital

ROUNDS, STEPS = 20, 2
SKIPPED = {4, 8, 9, 15, 20}
RESTARTED_BEFORE = {5, 11, 16}
LONG = (f"rounds={ROUNDS}", f"training.local_steps={STEPS}")

Train = Callable[[int], PrivacySpent]


@pytest.fixture(scope="session")
def start() -> Arrays:
    study = compose_study(TINY).value
    return trainable(build_model(study.model, study.adapter, study.task, seed=study.seed))


def opacus_epsilon(noise: float, rate: float, steps: int, delta: float) -> float:
    """Opacus's accountant, told of one step after the other."""
    accountant = PRVAccountant()
    for _ in range(steps):
        accountant.step(noise_multiplier=noise, sample_rate=rate)
    return float(accountant.get_epsilon(delta))


def run_with_gaps(train: Train, restart: Callable[[], None], rate: float) -> None:
    """Train in all rounds but some, restart now and then, and compare every answer with Opacus."""
    attended = 0
    for number in range(1, ROUNDS + 1):
        if number in RESTARTED_BEFORE:
            restart()
        if number in SKIPPED:
            continue
        told = train(number)
        attended += 1
        if number in {1, 10, 19}:
            expected = opacus_epsilon(told.noise_multiplier, rate, STEPS * attended, told.delta)
            assert told.train == told.run == pytest.approx(expected, abs=1e-4 if rate == 1 else 1e-6)
    assert attended == ROUNDS - len(SKIPPED)
    assert told.train < 0.95 * told.planned <= 3.0


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")  # of the oracle, not of the ledger
@pytest.mark.parametrize("rate", [1.0, pytest.param(0.25, marks=pytest.mark.slow)])
def test_epsilon_over_rounds_restarts_and_gaps_is_that_of_the_steps_taken(
    tmp_path: Path, start: Arrays, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, add_noise = [0], private_step.SecureDPOptimizer.add_noise
    monkeypatch.setattr(
        private_step.SecureDPOptimizer,
        "add_noise",
        lambda self: taken.__setitem__(0, taken[0] + 1) or add_noise(self),
    )
    site = load_site(write_hospital(tmp_path / "a"))
    trainers = [Trainer(site)]
    asked = lambda number: request(number, start, *LONG, f"training.sample_rate={rate}")  # noqa: E731
    run_with_gaps(
        lambda number: trainers[-1].train(asked(number)).privacy, lambda: trainers.append(Trainer(site)), rate
    )
    assert len(trainers) == 4
    assert taken[0] == STEPS * (ROUNDS - len(SKIPPED))
    recorded = sum(charge.release.steps for charge in Ledger(tmp_path / "a" / "state", "hospital-a").charges())
    assert recorded == taken[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_epsilon_survives_trainers_that_are_killed(
    tmp_path: Path, start: Arrays, start_trainer: Callable[[Path], TrainerProcess]
) -> None:
    site_file = write_hospital(tmp_path / "a")
    running = [start_trainer(site_file)]

    def restart() -> None:
        running[-1].kill()
        running.append(start_trainer(site_file))

    def train(number: int) -> PrivacySpent:
        asked = request(number, start, *LONG, "training.sample_rate=0.25")
        return SocketTrainer(str(running[-1].socket)).train(asked).privacy

    run_with_gaps(train, restart, 0.25)


class Crash(BaseException):
    """Power is lost in the middle of a computation; nothing in the trainer catches it."""


REWEIGHTED, BY_LOSSES, ALONE = ("reweighting=kamiran_calders",), ("reweighting=group_dro",), ("baseline=alone",)
COMPUTED: dict[str, tuple[Any, str, str, int, tuple[str, ...]]] = {
    # purpose: where it is computed, the call, the round, and what the study says
    "training": (private_step.SecureDPOptimizer, "add_noise", "train", 1, ()),
    "reweighting": (loss_weights, "group_label_table", "train", 1, REWEIGHTED),
    "group_losses": (loss_weights, "group_loss_table", "train", 1, BY_LOSSES),
    "alone": (private_step.SecureDPOptimizer, "add_noise", "evaluate", 3, ALONE),
    "alone_count": (baseline, "patient_cells", "evaluate", 3, ALONE),
    "evaluation": (releases, "patient_cells", "evaluate", 1, ()),
    "groups": (group_counts, "group_tables", "evaluate", 3, ()),
    "audit_groups": (group_counts, "group_tables", "evaluate", 1, ()),
    "loss": (releases, "clipped_loss", "evaluate", 1, ()),
    "explanation": (explained, "look", "evaluate", 3, ()),
    "terms": (explained, "look", "evaluate", 3, ("explainability.vocabulary=[fever]",)),
    "check": (before_sending, "look", "train", 3, ()),
    "statistics": (statistics, "exact_sums", "summarise", 0, ("standardize=global",)),
}


def crashed(trainer: Trainer, start: Arrays, purpose: str) -> list[str]:
    """Ask for a release of this purpose, crash where it is computed, and return what is on record afterwards."""
    where, name, call, number, overrides = COMPUTED[purpose]

    def crash(*_: object, **__: object) -> None:
        raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, name, crash)
        if purpose == "audit_groups":  # a weighting rule asks for them, whichever that is
            for module in (fedfm.plan, group_counts):
                patch.setattr(module, "audit_attribute", lambda _: "sex")
        with pytest.raises(Crash):
            getattr(trainer, call)(request(number, start if number else {}, *overrides))
    return [charge.purpose for charge in Ledger(Path(trainer.site.state), "hospital-a").charges()]


def check_charged_before_computed(folder: Path, start: Arrays, purpose: str) -> None:
    trainer = Trainer(load_site(write_hospital(folder)))
    assert purpose in crashed(trainer, start, purpose)


def test_every_release_of_a_plan_is_among_them() -> None:
    planned = {field.name for field in fields(Plan)} - {"delta", "planned", "last_evaluation", "last_groups"}
    assert planned == set(COMPUTED)


@pytest.mark.parametrize("purpose", COMPUTED)
def test_every_release_is_on_disk_before_it_is_computed(tmp_path: Path, start: Arrays, purpose: str) -> None:
    check_charged_before_computed(tmp_path / "a", start, purpose)


def check_answers_are_paid_for(folder: Path, start: Arrays) -> None:
    """What an answer says is spent is what was done: training, counts and explanations, each on its own patients."""
    trainer = Trainer(load_site(write_hospital(folder)))
    first, last = trainer.train(request(1, start)), trainer.evaluate(request(3, start))
    study = study_from_json(request(1, start).study)
    expected = opacus_epsilon(first.privacy.noise_multiplier, 1.0, study.training.local_steps, first.privacy.delta)
    assert last.privacy.train == pytest.approx(expected, abs=1e-4)
    assert min(last.privacy.test, last.privacy.audit) > 0.1


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_answers_are_paid_for(tmp_path: Path, start: Arrays) -> None:
    check_answers_are_paid_for(tmp_path / "a", start)


@contextmanager
def ledger_not_charged() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Round, "charge", lambda *_: None)
        yield


@contextmanager
def charged_after_computing() -> Iterator[None]:
    """Every charge is made, but only when the answer is ready."""
    owed: list[tuple[Any, ...]] = []
    charge = Round.charge

    def paid(how: Callable[[Round], Any]) -> Callable[[Round], Any]:
        def answer(asked: Round) -> Any:
            reply = how(asked)
            while owed:
                charge(*owed.pop(0))
            return replace(reply, privacy=asked.spent())

        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Round, "charge", lambda *call: owed.append(call))
        for module, name in ((rounds, "train"), (releases, "evaluate")):
            patch.setattr(module, name, paid(getattr(module, name)))
        yield


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_a_ledger_that_is_not_charged_is_caught(tmp_path: Path, start: Arrays) -> None:
    with ledger_not_charged(), pytest.raises(AssertionError):
        check_answers_are_paid_for(tmp_path / "a", start)


@pytest.mark.parametrize("purpose", ["training", "group_losses", "alone", "alone_count"])
def test_a_release_that_is_not_charged_is_caught(tmp_path: Path, start: Arrays, purpose: str) -> None:
    with ledger_not_charged(), pytest.raises(AssertionError):
        check_charged_before_computed(tmp_path / "a", start, purpose)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("purpose", sorted(set(COMPUTED) - {"reweighting", "statistics"}))
def test_a_ledger_that_is_charged_after_computing_is_caught(tmp_path: Path, start: Arrays, purpose: str) -> None:
    """Its answers are right; only a crash shows it."""
    with charged_after_computing():
        check_answers_are_paid_for(tmp_path / "a", start)
    with charged_after_computing(), pytest.raises(AssertionError):
        check_charged_before_computed(tmp_path / "b", start, purpose)


def test_a_ledger_that_went_back_is_refused_by_the_trainer_and_nothing_is_done(tmp_path: Path, start: Arrays) -> None:
    site = load_site(write_hospital(tmp_path / "a"))
    state = tmp_path / "a" / "state"
    trainer = Trainer(site)
    told = [trainer.train(request(number, start)).privacy for number in (1, 2)]
    (path,) = state.glob("ledger-*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    for draft in state.glob("*.next"):
        draft.unlink()

    def asked(number: int) -> Any:
        return replace(request(number, start), ledger_entries=told[-1].entries, ledger_seal=told[-1].seal)

    for content in (lines[:1], []):
        path.unlink(missing_ok=True)
        if content:
            path.write_bytes(b"".join(content))
        restarted = Trainer(site)
        for call in (restarted.describe, restarted.train, restarted.evaluate):
            with pytest.raises(FedFMError, match="SITE-E116"):
                call(replace(asked(3), round=0, parameters={}, layout="") if call == restarted.describe else asked(3))
        assert (path.read_bytes() if content else b"") == b"".join(content)
    path.write_bytes(b"".join(lines))
    older = replace(asked(3), ledger_entries=told[0].entries, ledger_seal=told[0].seal)  # an answer was lost
    assert (
        Trainer(site).train(older).privacy.entries == told[-1].entries + 3
    )  # the last round's check, and that it is answered


def test_who_lies_about_the_ledger_is_refused_and_learns_and_changes_nothing(tmp_path: Path, start: Arrays) -> None:
    trainer = Trainer(load_site(write_hospital(tmp_path / "a")))
    told = trainer.train(request(1, start)).privacy
    (path,) = (tmp_path / "a" / "state").glob("ledger-*.jsonl")
    before, texts = path.read_bytes(), set()
    for entries, seal in [(1, "ab" * 32), (2, told.seal), (2**60, ""), (1, ""), (-1, ""), (-5, told.seal)]:
        with pytest.raises(FedFMError, match="SITE-E116") as refused:
            trainer.train(replace(request(2, start), ledger_entries=entries, ledger_seal=seal))
        texts.add(str(refused.value))
    assert len(texts) == 1
    assert path.read_bytes() == before
    assert trainer.describe(request(0, {})).site == "hospital-a"  # a coordinator that remembers nothing


def test_warm_data_stay_when_a_ledger_is_refused(tmp_path: Path, start: Arrays) -> None:
    site = load_site(write_hospital(tmp_path / "a"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("client_app.trainer.warm.prepare", lambda *_: pytest.fail("data were loaded"))
        with pytest.raises(FedFMError, match="SITE-E116"):
            Trainer(site).train(replace(request(1, start), ledger_entries=1, ledger_seal="ab" * 32))
    assert prepare(site, study_from_json(request(0, {}).study)).start.keys() == start.keys()

"""A model trained without the other sites: the same training, paid for, counted once, and gone from the trainer."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opacus.accountants import PRVAccountant

from client_app import baseline, private_step
from client_app.asked import Round
from client_app.cohorts import prepare
from client_app.ledger import Charge, Ledger
from client_app.site import agreed_plan
from client_app.trainer.warm import Trainer
from fedfm.arrays import Arrays
from fedfm.config.compose import compose_study, load_site, study_from_json
from fedfm.model.build import build_model
from fedfm.parameters import load_trainable, trainable
from fedfm.plan import of_split, sd
from fedfm.privacy import Release
from tests.integration.conftest import TINY, request, write_hospital

ALONE = ("baseline=alone",)
OPEN = "allow_no_privacy: true\n  small_cells: none"
EXACT = (*ALONE, "privacy=none", "training.sample_rate=0.5", "training.learning_rate=2")


@pytest.fixture(scope="module")
def start() -> Arrays:
    study = compose_study(TINY).value
    return trainable(build_model(study.model, study.adapter, study.task, seed=study.seed))


def ask(folder: Path, start: Arrays, *overrides: str, number: int = 3) -> Round:
    """A request to a hospital that has just started; its model holds what it received."""
    site, asked = load_site(folder / "site.yaml"), request(number, start, *overrides)
    study = study_from_json(asked.study)
    prepared = prepare(site, study)
    load_trainable(prepared.model, start)
    return Round(site, study, agreed_plan(site, study), Ledger(Path(site.state), site.id), prepared, asked)


def purposes(asked: Round) -> list[str]:
    return [charge.purpose for charge in asked.ledger.charges()]


@pytest.mark.parametrize("clip", ["0.1", "null"])
def test_training_alone_is_a_federation_of_one(tmp_path: Path, start: Arrays, clip: str) -> None:
    """Without privacy every coin is public: bit for bit the same counts as if all other sites had never been."""
    trainer = Trainer(load_site(write_hospital(tmp_path, policy=OPEN)))
    overrides = (*EXACT, f"privacy.max_grad_norm={clip}")
    parameters = start
    for number in (1, 2, 3):
        update = trainer.train(request(number, parameters, *overrides)).update
        parameters = {name: parameters[name] + update[name] for name in parameters}
    told = trainer.evaluate(request(3, parameters, *overrides))
    assert told.alone.shape == told.cells.shape == (2, 10)
    np.testing.assert_array_equal(told.alone, told.cells)
    assert told.alone_sd == 0.0
    other = trainer.evaluate(request(3, start, *overrides, run="run-2"))  # whatever the federated model is
    np.testing.assert_array_equal(other.alone, told.alone)
    assert not np.array_equal(other.cells, told.cells)


def test_it_trains_on_training_patients_and_is_counted_on_test_patients_only(tmp_path: Path, start: Arrays) -> None:
    """Parallel composition: who goes from one split changes nothing that is made of another."""
    splits, found, models = None, {}, {}
    for name in ("whole", "train", "test", "audit"):
        table = write_hospital(tmp_path / name, policy=OPEN).parent / "cohort.csv"
        if splits is not None:
            gone = getattr(splits, name)[0].patient
            rows = [row for row in table.read_text().splitlines() if not row.startswith(f"{gone},")]
            table.write_text("\n".join(rows) + "\n")
        asked = ask(tmp_path / name, start, *ALONE, "privacy=none")
        splits = splits or asked.prepared.splits
        found[name], _ = baseline.count_alone(asked)
        kept = baseline.kept_alone(asked)
        assert kept is not None
        models[name] = np.concatenate([kept[key].ravel() for key in sorted(kept)])
    np.testing.assert_array_equal(found["audit"], found["whole"])
    assert np.linalg.norm(found["test"] - found["whole"]) == pytest.approx(1)
    np.testing.assert_array_equal(models["test"], models["whole"])
    np.testing.assert_array_equal(models["audit"], models["whole"])
    assert (models["train"] != models["whole"]).any()


def test_it_is_counted_in_the_closing_evaluation_of_a_study_that_asks(tmp_path: Path, start: Arrays) -> None:
    trainer = Trainer(load_site(write_hospital(tmp_path)))
    early, silent = trainer.evaluate(request(1, start, *ALONE)), trainer.evaluate(request(3, start, run="run-2"))
    assert early.alone.shape == silent.alone.shape == (2, 0)
    assert early.alone_sd == silent.alone_sd == 0.0
    assert not {"alone", "alone_count"} & {charge.purpose for charge in trainer.ledger.charges()}


def test_asked_again_it_says_the_same_and_spends_nothing(tmp_path: Path, start: Arrays) -> None:
    write_hospital(tmp_path)
    first = ask(tmp_path, start, *ALONE)
    table, noise = baseline.count_alone(first)
    assert purposes(first) == ["alone", "alone_count"]
    again = ask(tmp_path, start, *ALONE)  # a trainer that was restarted
    same, stated = baseline.count_alone(again)
    np.testing.assert_array_equal(same, table)
    assert noise == stated == sd(first.plan.alone_count)  # type: ignore[arg-type]
    assert purposes(again) == ["alone", "alone_count"]
    for name, array in trainable(again.prepared.model).items():
        np.testing.assert_array_equal(array, start[name])


def test_where_the_budget_is_spent_the_rest_of_the_evaluation_is_told(tmp_path: Path, start: Arrays) -> None:
    """A round that was trained twice may leave too little: what the answer has cost is not lost with it."""
    write_hospital(tmp_path)
    asked = ask(tmp_path, start, *ALONE)
    for release in (*[asked.plan.training] * 3, asked.plan.alone):  # all that the run may spend
        asked.charge("train", "training", release)  # type: ignore[arg-type]
    before = asked.ledger.epsilon("train", asked.plan.delta)
    told = Trainer(load_site(tmp_path / "site.yaml")).evaluate(request(3, start, *ALONE, "personal=ditto"))
    assert told.cells.shape == (2, 10)
    assert (told.alone.shape, told.alone_sd) == ((2, 0), 0.0)
    assert told.privacy.train == pytest.approx(before)
    assert not {"alone", "alone_count"} & set(purposes(asked))


def test_a_crash_before_the_count_costs_no_second_training(tmp_path: Path, start: Arrays) -> None:
    write_hospital(tmp_path)

    def crash(*_: object, **__: object) -> None:
        raise MemoryError

    crashing = ask(tmp_path, start, *ALONE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baseline, "logits_of", crash)
        with pytest.raises(MemoryError):
            baseline.count_alone(crashing)
    for name, array in trainable(crashing.prepared.model).items():
        np.testing.assert_array_equal(array, start[name])
    asked = ask(tmp_path, start, *ALONE)
    (path,) = (tmp_path / "state").glob("alone-*.safetensors")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [charge.purpose for charge in asked.ledger.charges() if charge.split == "train"] == ["alone"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baseline, "fine_tune", lambda *_, **__: pytest.fail("trained again"))
        patch.setattr(Round, "charge", lambda *_: None)  # the count is charged again, and its budget is spent
        baseline.count_alone(asked)


def check_training_is_noised(folder: Path, start: Arrays) -> None:
    """Every step of it adds the plan's noise, and as many steps are charged as are taken."""
    write_hospital(folder)
    asked, seen = ask(folder, start, *ALONE), []
    add_noise = private_step.SecureDPOptimizer.add_noise
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            private_step.SecureDPOptimizer,
            "add_noise",
            lambda self: seen.append(self.noise_multiplier) or add_noise(self),  # type: ignore[func-returns-value]
        )
        baseline.count_alone(asked)
    assert asked.plan.alone is not None
    assert seen == [asked.plan.alone.noise_multiplier] * (3 * asked.study.training.local_steps)
    (charge,) = [charge for charge in asked.ledger.charges() if charge.purpose == "alone"]
    assert charge.release == asked.plan.alone == Release(seen[0], 1.0, len(seen))
    assert seen[0] > asked.plan.training.noise_multiplier > 0.3  # a share of the budget


def check_count_is_noised(folder: Path, start: Arrays) -> None:
    write_hospital(folder)
    asked = ask(folder, start, *ALONE)
    stated = sd(asked.plan.alone_count)  # type: ignore[arg-type]
    baseline.count_alone(asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Round, "charge", lambda *_: None)
        drawn = np.array([baseline._release(asked, asked.plan.alone_count, stated) for _ in range(200)])  # type: ignore[arg-type]
    noise = drawn - drawn.mean(axis=0)
    assert noise.std() == pytest.approx(stated, rel=6 / (2 * drawn.size) ** 0.5)
    assert len(np.unique(drawn)) > 0.5 * drawn.size


CHECKS: dict[str, Callable[[Path, Arrays], None]] = {
    "training": check_training_is_noised,
    "count": check_count_is_noised,
}


@pytest.mark.slow
@pytest.mark.parametrize("what", CHECKS)
def test_training_and_count_bear_the_plans_noise(what: str, tmp_path: Path, start: Arrays) -> None:
    CHECKS[what](tmp_path, start)


@contextmanager
def training_without_noise() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        real = baseline.fine_tune
        patch.setattr(baseline, "fine_tune", lambda *of, **how: real(*of, **how | {"noise_multiplier": 0.0}))
        yield


@contextmanager
def training_with_the_federations_noise() -> Iterator[None]:
    """It is too little: the model alone has a share of the budget."""
    with pytest.MonkeyPatch.context() as patch:
        real = baseline.fine_tune
        patch.setattr(
            baseline,
            "fine_tune",
            lambda asked, *of, **how: real(
                asked, *of, **how | {"noise_multiplier": asked.plan.training.noise_multiplier}
            ),
        )
        yield


@contextmanager
def one_step_charged() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        charge = Round.charge
        patch.setattr(Round, "charge", lambda self, split, what, of: charge(self, split, what, replace(of, steps=1)))
        yield


@contextmanager
def count_without_noise() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baseline, "noised_sums", lambda exact, _: exact)
        yield


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("training", training_without_noise),
        ("training", training_with_the_federations_noise),
        ("training", one_step_charged),
        ("count", count_without_noise),
    ],
)
def test_a_fault_in_the_noise_or_the_charge_of_training_alone_is_caught(
    what: str, fault: Callable[[], AbstractContextManager[None]], tmp_path: Path, start: Arrays
) -> None:
    with fault(), pytest.raises(AssertionError):
        CHECKS[what](tmp_path, start)


def opacus_epsilon(charges: list[Charge], delta: float) -> float:
    accountant = PRVAccountant()
    for charge in charges:
        for _ in range(charge.release.steps):
            accountant.step(noise_multiplier=charge.release.noise_multiplier, sample_rate=charge.release.sample_rate)
    return float(accountant.get_epsilon(delta))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")  # of the oracle
@pytest.mark.parametrize(
    "overrides", [("evaluation.groups=false",), pytest.param(("training.sample_rate=0.25",), marks=pytest.mark.slow)]
)
def test_all_of_a_run_with_training_alone_costs_what_opacus_says_and_stays_within_each_budget(
    overrides: tuple[str, ...], tmp_path: Path, start: Arrays
) -> None:
    everything = (*ALONE, "reweighting=group_dro", "personal=ditto", *overrides)
    trainer = Trainer(load_site(write_hospital(tmp_path)))
    for number in (1, 2, 3):
        trainer.train(request(number, start, *everything))
        told = trainer.evaluate(request(number, start, *everything)).privacy
    charges = trainer.ledger.charges()
    assert {"alone", "alone_count", "group_losses"} <= {charge.purpose for charge in charges}
    asked = ask(tmp_path, start, *everything)
    for split in ("train", "test", "audit"):
        of_split_ = [charge for charge in charges if charge.split == split]
        spent: float = getattr(told, split)
        assert spent == pytest.approx(opacus_epsilon(of_split_, told.delta), abs=0.01)  # Opacus's stated error
        assert 2.9 < spent <= 3.0
        planned: Any = of_split(asked.study, asked.plan, split)
        assert sum(c.release.steps for c in of_split_) == sum(release.steps for release in planned)
    assert told.run == told.train == pytest.approx(told.planned)


@pytest.mark.slow
def test_a_site_that_takes_fewer_steps_says_so_is_charged_for_them_and_adds_the_full_plans_noise(
    tmp_path: Path, start: Arrays
) -> None:
    found = {}
    for name, setting in (("slow", "max_steps: 1\n"), ("quick", "max_steps: 9\n")):
        file = write_hospital(tmp_path / name)
        file.write_text(setting + file.read_text())
        trainer = Trainer(load_site(file))
        reply = trainer.train(request(1, start, *ALONE))
        trainer.evaluate(request(3, start, *ALONE))
        found[name] = (reply.steps, {charge.purpose: charge.release for charge in trainer.ledger.charges()})
        assert reply.privacy.planned == pytest.approx(3.0, abs=0.1)
    (few, slow), (all_, quick) = found["slow"], found["quick"]
    assert (few, all_) == (1, 4)
    assert slow["training"] == replace(quick["training"], steps=1)
    assert slow["alone"] == replace(quick["alone"], steps=3)
    assert quick["alone"].steps == 12

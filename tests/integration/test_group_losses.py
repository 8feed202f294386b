"""Losses of groups that weigh the training: of audit patients alone, noised, charged in each round and kept."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from client_app import loss_weights
from client_app.asked import Round
from client_app.ledger import Ledger
from client_app.reweighting import group_dro
from client_app.trainer.warm import Trainer
from fedfm.arrays import Arrays
from fedfm.config.compose import compose_study, load_site
from fedfm.metrics.counts import LOSS_CAP
from fedfm.model.build import build_model
from fedfm.parameters import trainable
from tests.integration.conftest import TINY, request, write_hospital
from tests.integration.test_alone import ask as asked_of

DRO = ("reweighting=group_dro", "reweighting.params.step=1")
OPEN = "allow_no_privacy: true\n  small_cells: none"


@pytest.fixture(scope="module")
def start() -> Arrays:
    study = compose_study(TINY).value
    return trainable(build_model(study.model, study.adapter, study.task, seed=study.seed))


def ask(folder: Path, start: Arrays, *overrides: str, number: int = 1) -> Round:
    return asked_of(folder, start, *overrides, number=number)


def kept(folder: Path) -> dict[int, np.ndarray]:
    """Round to its table."""
    files = (folder / "state").glob("group-losses-*.json")
    return {int(file.name.split("-")[2]): np.array(json.loads(file.read_text())) for file in files}


def charges(folder: Path) -> list[tuple[str, int]]:
    ledger = Ledger(folder / "state", "hospital-a")
    return [(charge.split, charge.round) for charge in ledger.charges() if charge.purpose == "group_losses"]


def test_the_weights_of_a_round_follow_the_losses_of_all_rounds_so_far(tmp_path: Path, start: Arrays) -> None:
    trainer = Trainer(load_site(write_hospital(tmp_path, policy=OPEN)))
    worse = {name: array + 1 for name, array in start.items()}
    for number, parameters in ((1, start), (3, worse)):  # it misses the second round
        trainer.train(request(number, parameters, *DRO, "privacy=none"))
    tables = kept(tmp_path)
    assert set(tables) == {1, 3}
    asked = ask(tmp_path, worse, *DRO, "privacy=none", number=3)
    found = loss_weights.loss_weights(asked)
    expected = group_dro([tables[1], tables[3]], noise=0.0, step=1.0, cap=4.0)
    of = dict(zip(("female", "male"), expected, strict=True))
    assert of["female"] != pytest.approx(of["male"], abs=1e-3)
    assert found.tolist() == pytest.approx([of[e.groups["sex"]] for e in asked.prepared.splits.train])
    # the sums are those that anybody would make of the audit patients
    examples = asked.prepared.splits.audit
    with torch.no_grad():
        logits = asked.prepared.model(asked.prepared.audit.states)
        lost = torch.nn.functional.cross_entropy(logits, asked.prepared.audit.labels, reduction="none").numpy()
    for row, group in enumerate(("female", "male")):
        patients = {e.patient for e in examples if e.groups["sex"] == group}
        means = [np.mean([lost[i] for i, e in enumerate(examples) if e.patient == p]) for p in patients]
        assert tables[3][row] == pytest.approx([np.minimum(means, LOSS_CAP).sum() / LOSS_CAP, len(patients)], rel=1e-5)


def test_a_repeated_request_gets_the_same_losses_and_pays_for_them_once(tmp_path: Path, start: Arrays) -> None:
    file = write_hospital(tmp_path)
    Trainer(load_site(file)).train(request(1, start, *DRO))
    first = kept(tmp_path)[1]
    for number in (1, 2):  # after restarts
        Trainer(load_site(file)).train(request(number, start, *DRO))
    np.testing.assert_array_equal(kept(tmp_path)[1], first)
    assert charges(tmp_path) == [("audit", 1), ("audit", 2)]
    asked = ask(tmp_path, start, *DRO)
    assert asked.plan.group_losses is not None
    noise = math.sqrt(2) * asked.plan.group_losses.noise_multiplier
    alone = group_dro([first], noise=noise, step=1.0, cap=4.0)  # the first round's weights know of no later one
    of = dict(zip(("female", "male"), alone, strict=True))
    weights = loss_weights.loss_weights(asked).tolist()
    assert weights == pytest.approx([of[e.groups["sex"]] for e in asked.prepared.splits.train])


def without(folder: Path, gone: str) -> None:
    table = folder / "cohort.csv"
    table.write_text("\n".join(x for x in table.read_text().splitlines() if not x.startswith(f"{gone},")) + "\n")


def test_the_losses_look_at_audit_patients_only(tmp_path: Path, start: Arrays) -> None:
    """Parallel composition: a training or test patient who goes leaves them as they are; an audit patient does not."""
    write_hospital(tmp_path / "whole", policy=OPEN)
    splits = ask(tmp_path / "whole", start, *DRO, "privacy=none").prepared.splits
    for name in ("whole", "train", "test", "audit"):
        if name != "whole":
            write_hospital(tmp_path / name, policy=OPEN)
            without(tmp_path / name, getattr(splits, name)[0].patient)
        loss_weights.loss_weights(ask(tmp_path / name, start, *DRO, "privacy=none"))
    tables = {name: kept(tmp_path / name)[1] for name in ("whole", "train", "test", "audit")}
    np.testing.assert_array_equal(tables["train"], tables["whole"])
    np.testing.assert_array_equal(tables["test"], tables["whole"])
    moved = np.linalg.norm(tables["audit"] - tables["whole"])
    assert 1 <= moved <= math.sqrt(2) + 1e-9


@pytest.mark.parametrize("values", ["{female: a, male: a}", "{}"])
def test_a_site_that_lists_fewer_than_two_groups_weighs_all_the_same_and_spends_nothing(
    values: str, tmp_path: Path, start: Arrays
) -> None:
    file = write_hospital(tmp_path)
    file.write_text(file.read_text().replace("{female: female, male: male}", values))
    found = loss_weights.loss_weights(ask(tmp_path, start, *DRO))
    assert set(found.tolist()) == {1.0}
    assert not kept(tmp_path)
    assert not charges(tmp_path)


@pytest.mark.parametrize("rule", [DRO, ("reweighting=kamiran_calders",)])
def test_who_lists_other_groups_in_mid_run_begins_anew(rule: tuple[str, ...], tmp_path: Path, start: Arrays) -> None:
    """A row of a kept table is a group of the list that it was made by."""
    file = write_hospital(tmp_path, policy=OPEN)
    Trainer(load_site(file)).train(request(1, start, *rule, "privacy=none"))
    file.write_text(file.read_text().replace("female: female", "female: woman, unknown: other"))
    Trainer(load_site(file)).train(request(2, start, *rule, "privacy=none"))
    tables = (file for file in (tmp_path / "state").glob("*.json") if not file.name.startswith("check-"))
    files = sorted(tables, key=lambda path: path.stat().st_mtime_ns)
    assert [len(json.loads(path.read_text())) for path in files] == [2, 3]


def test_a_step_of_zero_is_bit_for_bit_plain_training(tmp_path: Path, start: Arrays) -> None:
    updates = []
    for name, overrides in (("dro", (*DRO, "reweighting.params.step=0")), ("plain", ())):
        trainer = Trainer(load_site(write_hospital(tmp_path / name, policy=OPEN)))
        updates.append(trainer.train(request(1, start, "privacy=none", *overrides)).update)
    for key in updates[0]:
        np.testing.assert_array_equal(updates[0][key], updates[1][key])


def check_noise(folder: Path, start: Arrays) -> None:
    """Over many runs, the numbers have the plan's noise, each its own."""
    write_hospital(folder)
    asked, drawn = ask(folder, start, *DRO), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Round, "charge", lambda *_: None)
        for _ in range(150):
            loss_weights.loss_weights(asked)
            drawn.append(kept(folder)[1])
            asked.kept("group-losses-1", of=["female", "male"]).unlink()
    assert asked.plan.group_losses is not None
    noise = np.array(drawn).reshape(150, 4)
    stated = asked.plan.group_losses.noise_multiplier * math.sqrt(2)
    assert np.sqrt(noise.var(axis=0).mean()) == pytest.approx(stated, rel=6 / math.sqrt(2 * noise.size))
    correlation = np.corrcoef(noise, rowvar=False) - np.eye(4)
    assert np.abs(correlation).max() < 6 / math.sqrt(150)


def test_the_losses_bear_the_plans_noise(tmp_path: Path, start: Arrays) -> None:
    check_noise(tmp_path, start)


@contextmanager
def without_noise() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_weights, "noised_sums", lambda exact, _: exact)
        yield


@contextmanager
def noise_for_one_number() -> Iterator[None]:
    """As if a patient moved a sum, or a count, and not both."""
    real = loss_weights.noised_sums
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_weights, "noised_sums", lambda exact, noise: real(exact, noise / math.sqrt(2)))
        yield


@contextmanager
def noise_shared_by_all() -> Iterator[None]:
    real = loss_weights.noised_sums
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_weights, "noised_sums", lambda exact, noise: exact + real(np.zeros(1), noise))
        yield


@pytest.mark.slow
@pytest.mark.parametrize("fault", [without_noise, noise_for_one_number, noise_shared_by_all])
def test_a_fault_in_the_noise_of_group_losses_is_caught(
    fault: Callable[[], AbstractContextManager[None]], tmp_path: Path, start: Arrays
) -> None:
    with fault(), np.errstate(all="ignore"), pytest.raises(AssertionError):
        check_noise(tmp_path, start)

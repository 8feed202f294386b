"""Several GPUs at one hospital: two trainer processes, one state folder, one ledger for the same patients."""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copy

import pytest

from client_app.audit_log import AuditLog
from client_app.ledger import Ledger
from client_app.trainer.connect import SocketTrainer
from fedfm.arrays import Arrays
from fedfm.config.compose import compose_study
from fedfm.errors import FedFMError
from fedfm.model.build import build_model
from fedfm.parameters import trainable
from fedfm.privacy import Release, epsilon
from tests.integration.conftest import TINY, TrainerProcess, request, write_hospital

ROUNDS = 12
CAP = 1.2
EPSILONS = ("privacy.epsilon=1", "privacy.evaluation_epsilon=1", "privacy.audit_epsilon=1")
STUDY = (f"rounds={ROUNDS}", "training.local_steps=2", *EPSILONS)

Start = Callable[[Path], TrainerProcess]
Serve = Callable[[Path], Path]


@pytest.fixture
def site_files(tmp_path: Path) -> list[Path]:
    """Two site files of one cohort, each with an id of its own."""
    first = write_hospital(tmp_path / "a", policy=f"max_epsilon: {CAP}", name="hospital-1")
    first.write_text(f"cohort: hospital\n{first.read_text()}")
    second = first.with_name("second.yaml")
    copy(first, second)
    second.write_text(first.read_text().replace("id: hospital-1", "id: hospital-2"))
    return [first, second]


@pytest.fixture
def start() -> Arrays:
    study = compose_study(TINY).value
    return trainable(build_model(study.model, study.adapter, study.task, seed=study.seed))


@pytest.mark.slow
def test_two_trainers_at_once_spend_one_budget(
    site_files: list[Path], start_trainer: Start, start: Arrays, tmp_path: Path
) -> None:
    pair = [SocketTrainer(str(start_trainer(file).socket)) for file in site_files]

    asked = [[request(at, start, *STUDY, run=f"run-{number}") for at in range(1, ROUNDS + 1)] for number in range(2)]

    def whole_run(number: int) -> list[str]:
        told = []
        for one in asked[number]:
            try:
                pair[number].train(one)
                told.append("answered")
            except FedFMError as refusal:
                told.append(refusal.code)
        return told

    with ThreadPoolExecutor(2) as both:
        told = [code for codes in both.map(whole_run, range(2)) for code in codes]
    assert set(told) == {"answered", "SITE-E104"}  # both runs fit the cap alone, and not together

    state = tmp_path / "a" / "state"
    lines = [json.loads(line) for line in (state / "ledger-hospital.jsonl").read_text().splitlines()]
    charged = [line for line in lines if "answered" not in line]
    assert len(charged) == told.count("answered") == len(lines) - len(charged)
    assert {line["run"] for line in charged} == {"run-0", "run-1"}
    releases = [Release(line["noise_multiplier"], line["sample_rate"], line["steps"]) for line in charged]
    spent = [trainer.describe(request(0, {}, *STUDY)).privacy for trainer in pair]
    composed = epsilon(releases, spent[0].delta)
    assert composed <= CAP
    assert epsilon([*releases, releases[-1]], spent[0].delta) > CAP  # nor was one refused that would have fitted
    assert [one.train for one in spent] == pytest.approx([composed] * 2, rel=1e-12)
    assert spent[0].seal == spent[1].seal == lines[-1]["seal"]
    assert Ledger(state, "hospital").epsilon("train", spent[0].delta) == pytest.approx(composed, rel=1e-12)

    kinds = Counter((entry["direction"], entry["kind"]) for entry in AuditLog(state).entries())  # verifies every seal
    assert kinds["entered", "Train"] == kinds["left", "TrainAnswer"] == 2 * ROUNDS
    assert kinds["entered", "Describe"] == kinds["left", "DescribeAnswer"] == 2


def test_the_same_patients_do_not_count_twice_in_a_run(
    site_files: list[Path], serve_here: Serve, start: Arrays, tmp_path: Path
) -> None:
    pair = [SocketTrainer(str(serve_here(file))) for file in site_files]
    pair[0].train(request(1, start, *STUDY))
    with pytest.raises(FedFMError, match="SITE-E248"):
        pair[1].train(request(1, start, *STUDY))
    pair[1].train(request(1, start, *STUDY, run="run-2"))
    sites = [charge.site for charge in Ledger(tmp_path / "a" / "state", "hospital").charges()]
    assert sites == ["hospital-1", "hospital-2"]

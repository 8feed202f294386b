"""`fedfm-study plan`: the numbers are those a site plans by, and what is refused says what would do."""

import io
import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant
from rich.console import Console
from typer.testing import CliRunner

from client_app.site import agreed_plan
from fedfm.model.build import build_model
from server_app.cli import app
from server_app.planning import Federation, delta, noise_to_signal, outlook, some_of, trained_parameters
from server_app.planning_command import Wishes, show
from tests.unit.server_app.plans import CAPS, HEAD, site_of, study_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.mark.parametrize("patients", [20, 100, 1000])
@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("rounds=7", "evaluation.every=3", "training=sampled", "privacy.epsilon=1"),
        ("reweighting=kamiran_calders", "privacy.delta=1e-4"),
        ("standardize=global", "explainability.every=2", "rounds=4"),
    ],
)
def test_the_plan_is_the_one_that_a_site_makes(patients: int, overrides: tuple[str, ...]) -> None:
    study = study_of(*overrides)
    found = outlook(study, patients, Federation(2, 10))
    assert found.plan == agreed_plan(site_of(patients), study)


def opacus_epsilon(history: list[tuple[float, float, int]], at: float) -> float:
    accountant = PRVAccountant()
    accountant.history = history
    with np.errstate(all="ignore"):  # of Opacus's own, in a branch that it does not take
        return float(accountant.get_epsilon(at))


def test_epsilon_after_each_round_is_that_of_opacus() -> None:
    found = outlook(study_of("rounds=4", "reweighting=kamiran_calders"), 300, Federation(2, 10))
    made = found.plan
    assert list(found.rounds) == [1, 2, 3, 4]
    assert made.reweighting is not None
    counts = (made.reweighting.noise_multiplier, 1.0, 1)
    for done, spent in found.rounds.items():
        history = [counts, (made.training.noise_multiplier, 1.0, made.training.steps * done)]
        assert spent == pytest.approx(opacus_epsilon(history, made.delta), rel=1e-3)
    assert found.rounds[4] == made.planned


def test_test_and_audit_patients_are_counted_as_often_as_they_are_asked() -> None:
    study = study_of("rounds=5", "evaluation.every=2", "explainability.every=2")
    found = outlook(study, 300, Federation(2, 10))
    made = found.plan
    assert made.loss is not None
    # evaluated after rounds 2, 4 and, as precise as nine, 5; by groups as precise as nine
    on_test = [(made.evaluation.noise_multiplier, 1.0, 2 + 9 + 9)]
    assert found.test == pytest.approx(opacus_epsilon(on_test, made.delta), rel=1e-6)
    # losses after 2, 4, 5; explained after 2, 4, 5, and the sites' own checks in 5, as precise as nine each
    on_audit = [(made.loss.noise_multiplier, 1.0, 3 + 27 + 9)]
    assert found.audit == pytest.approx(opacus_epsilon(on_audit, made.delta), rel=1e-6)
    assert 2.9 < found.test <= 3
    assert 2.9 < found.audit <= 3


@settings(max_examples=5, deadline=None)
@given(
    patients=st.integers(20, 5000),
    epsilon=st.floats(0.3, 3),
    rounds=st.integers(1, 5),
    steps=st.integers(1, 20),
    rate=st.sampled_from([0.05, 0.3, 1.0]),
)
def test_no_plan_passes_its_budget_and_rounds_only_add(
    patients: int, epsilon: float, rounds: int, steps: int, rate: float
) -> None:
    study = study_of("evaluation.every=100")
    study = replace(
        study,
        rounds=rounds,
        training=replace(study.training, local_steps=steps, sample_rate=rate),
        privacy=replace(study.privacy, epsilon=epsilon),
    )
    found = outlook(study, patients, Federation(2, 10))
    spent = list(found.rounds.values())
    assert all(before <= after for before, after in pairwise(spent))
    assert spent[-1] <= epsilon
    assert found.test <= study.privacy.evaluation_epsilon
    assert found.audit <= study.privacy.audit_epsilon


def test_noise_to_signal_is_that_of_vectors_drawn() -> None:
    study = study_of("rounds=3")
    found = outlook(study, 50, Federation(4, 200))
    steps, noise = 12, found.plan.training.noise_multiplier
    expected_length = noise * math.sqrt(200 * steps)  # of a sum of 12 vectors of 200 normals, in clipping norms
    assert found.noise_to_signal == pytest.approx(expected_length / (50 * steps))
    assert found.averaged == pytest.approx(found.noise_to_signal / 2)
    halved = replace(study, training=replace(study.training, sample_rate=0.5))
    made = replace(found.plan, training=replace(found.plan.training, sample_rate=0.5))
    assert noise_to_signal(halved, made, patients=50, parameters=200) == pytest.approx(2 * found.noise_to_signal)


def test_parameters_are_those_of_the_head() -> None:
    study = study_of()
    model = build_model(study.model, study.adapter, study.task, seed=1)
    assert trained_parameters(study) == len(study.task.labels) * (model.head.in_features + 1)


def test_at_most_so_many_rounds_with_both_ends() -> None:
    assert some_of(3, 5) == [1, 2, 3]
    assert some_of(1000, 5) == [1, 251, 501, 750, 1000]
    assert delta(study_of(), 10) == 1e-3  # a tenth of one in ten, but for the policy's cap


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=120)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def wishes(*patients: int, as_json: bool = False) -> Wishes:
    return Wishes(patients, 0, 0, CAPS, as_json)


def test_people_see_every_release_and_the_curve(console: Console) -> None:
    assert show([*HEAD, "rounds=3"], wishes(300), console=console)
    lines = text_of(console).splitlines()
    found = outlook(study_of("rounds=3"), 300, Federation(2, trained_parameters(study_of())))
    for name, noise in found.noises.items():
        (line,) = [line for line in lines if line.split()[:-1] == name.split("_")]
        assert line.split()[-1] == f"{noise:.2f}"
    (last,) = [line for line in lines if line.split()[:1] == ["3"] and "█" in line]
    assert last.split()[1] == f"{found.plan.planned:.2f}"
    assert last.split()[2] == "█" * 24


def test_machines_get_one_json_object_even_without_privacy(console: Console) -> None:
    assert show([*HEAD, "privacy=none"], wishes(300, 600, as_json=True), console=console)
    found = json.loads(text_of(console))
    assert [cohort["patients"] for cohort in found["cohorts"]] == [300, 600]
    assert found["cohorts"][0]["epsilon"]["train"] is None
    assert found["cohorts"][0]["epsilon_after_round"]["5"] is None


def test_a_study_without_privacy_is_shouted(console: Console) -> None:
    show([*HEAD, "privacy=none"], wishes(300), console=console)
    assert "NO PRIVACY GUARANTEE" in text_of(console)
    assert "no bound" in text_of(console)


def test_the_command_says_by_its_exit_code_whether_the_study_is_feasible() -> None:
    run = CliRunner().invoke
    good = run(app, ["plan", *HEAD, "--patients", "300", "--json"])
    assert good.exit_code == 0
    assert json.loads(good.stdout)["cohorts"][0]["feasible"] is True
    bad = run(app, ["plan", *HEAD, "privacy.epsilon=5", "--patients", "300,400"])
    assert bad.exit_code == 1
    assert "SITE-E101" in bad.stdout
    assert "rounds=" in bad.stdout
    assert run(app, ["plan", *HEAD, "--patients", "many"]).exit_code == 2
    assert run(app, ["plan", *HEAD, "rounds=0"]).exit_code == 2

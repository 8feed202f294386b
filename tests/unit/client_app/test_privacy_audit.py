"""The audit finds what is wrong, and leaves alone what is right: with planted faults, and against oracles."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from scipy import stats
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from client_app import canaries, membership, privacy_audit
from client_app.canaries import CanaryResult, audit_canaries
from client_app.cli import app
from client_app.membership import Claim, clopper_pearson, judge
from client_app.training import fine_tune_by_unit
from fedfm import gaussian
from fedfm.config.compose import compose_study
from fedfm.config.study import Column, Study
from fedfm.plan import plan
from tests.integration.conftest import CANARY, write_hospital

Change = Callable[..., tuple[Any, dict[str, Any]]]


@pytest.fixture(autouse=True)
def same_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operating system's entropy, made to repeat from test to test: an honest audit fails once in 370."""
    monkeypatch.setattr("client_app.noise.os.urandom", np.random.default_rng(7).bytes)


def study(*overrides: str) -> Study:
    return compose_study(["model=tiny", "adapter=head", "rounds=5", *overrides]).value


def audited(*overrides: str, planted: int = 600) -> CanaryResult:
    asked = study(*overrides)
    return audit_canaries(asked, plan(asked, delta=1e-3), canaries=planted, micro_batch=128)


def plant(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """Put a fault between the plan and the private step."""

    def faulty(model: Any, cohort: Any, **settings: Any) -> None:
        cohort, settings = change(cohort, settings)
        fine_tune_by_unit(model, cohort, **settings)

    monkeypatch.setattr(canaries, "fine_tune_by_unit", faulty)


def little_noise(cohort: Any, settings: dict[str, Any], *, factor: float) -> tuple[Any, dict[str, Any]]:
    mechanism = settings["mechanism"]
    return cohort, settings | {"mechanism": replace(mechanism, noise_multiplier=mechanism.noise_multiplier * factor)}


def loose_clipping(cohort: Any, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Clips at 4 C, with the noise of C."""
    mechanism = settings["mechanism"]
    noise, clip = mechanism.noise_multiplier / 4, mechanism.max_grad_norm * 4
    return cohort, settings | {"mechanism": replace(mechanism, noise_multiplier=noise, max_grad_norm=clip)}


def notes_alone(cohort: Any, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Clips each note, not each patient."""
    return replace(cohort, units=[np.array([note]) for note in range(len(cohort.states))]), settings


def everybody(cohort: Any, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Takes all patients where the plan counts on a sample."""
    return cohort, settings | {"training": replace(settings["training"], sample_rate=1.0)}


@pytest.mark.parametrize(
    "overrides",
    [[], ["training.sample_rate=0.25"], ["privacy=record"], ["privacy.max_grad_norm=7.5", "privacy.epsilon=1"]],
    ids=["patient", "sampled", "record", "large-clip"],
)
@pytest.mark.slow
def test_a_private_step_as_planned_is_not_accused(overrides: list[str]) -> None:
    found = audited(*overrides)
    assert found.status == "consistent"
    estimate, low, high = found.epsilon_range()
    assert low < estimate < high
    assert found.error < 0.1


FAULTS: dict[str, tuple[Change, list[str]]] = {
    "noise / 4": (lambda c, s: little_noise(c, s, factor=0.25), []),
    "noise a third too small": (lambda c, s: little_noise(c, s, factor=0.67), []),
    "clip x 4": (loose_clipping, []),
    "notes clipped alone": (notes_alone, []),
    "everybody in every step": (everybody, ["training.sample_rate=0.25"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_noise_clipping_or_sampling_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change, overrides = FAULTS[fault]
    plant(monkeypatch, change)
    found = audited(*overrides)
    assert found.status == "violated"
    assert found.epsilon_range()[1] > found.claimed


def test_noise_a_quarter_as_large_is_found_at_many_standard_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, FAULTS["noise / 4"][0])
    found = audited()
    assert (found.measured - found.expected) / found.error > 15
    assert found.measured == pytest.approx(4 * found.expected, rel=0.15)


def test_noise_that_repeats_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It adds up over the steps and hides the canaries: an audit that only looks for leaks would praise it."""
    monkeypatch.setattr("client_app.noise.os.urandom", bytes)
    assert audited().status == "weak"


def test_an_interval_of_a_share_is_the_exact_one() -> None:
    for hits, trials in ((0, 7), (7, 7), (3, 1000), (40, 320), (5, 12_000)):
        exact = stats.binomtest(hits, trials).proportion_ci(confidence_level=0.95, method="exact")
        assert clopper_pearson(hits, trials, doubt=0.05) == pytest.approx((exact.low, exact.high), abs=1e-7)


def gauss(mu: float, *, models: int = 8, patients: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the best attack on a Gaussian mechanism of that mu."""
    rng = np.random.default_rng(3)
    members = rng.random((models, patients)) <= 0.5
    return rng.normal(size=members.shape) + mu * members, members


def claim(mu: float) -> Claim:
    return Claim(gaussian.epsilon_of(mu, 1e-3), 1e-3, mu)


def test_the_area_is_that_of_scikit_learn_and_of_the_closed_form() -> None:
    scores, members = gauss(1.0)
    found = judge(scores, members, claim(1.0), rng=np.random.default_rng(1))
    assert found.area == pytest.approx(roc_auc_score(members.ravel(), scores.ravel()), abs=1e-12)
    error = (found.area_high - found.area_low) / (2 * 1.96)
    assert abs(found.area - gaussian.best_area(1.0)) < 3 * error < 0.03


def test_the_best_attack_on_what_is_claimed_is_within_the_claim_and_on_more_is_beyond() -> None:
    fair = judge(*gauss(1.0), claim(1.0), rng=np.random.default_rng(1))
    assert fair.status == "consistent"
    assert fair.epsilon_low <= claim(1.0).epsilon
    assert judge(*gauss(2.0), claim(1.0), rng=np.random.default_rng(1)).status == "violated"
    by_epsilon = replace(claim(0.3), mu=None)
    caught = judge(*gauss(4.0), by_epsilon, rng=np.random.default_rng(1))
    assert caught.status == "violated"
    assert caught.epsilon_low > by_epsilon.epsilon


def test_the_shares_stand_beside_what_is_allowed() -> None:
    found = judge(*gauss(1.0), claim(1.0), rng=np.random.default_rng(1))
    for hit in found.hits:
        assert hit.low < hit.share < hit.high
        assert hit.allowed == pytest.approx(gaussian.best_hits(1.0, hit.false_alarms))
    assert Claim(1.0, 0.01, None).hits(0.02) == pytest.approx(math.e * 0.02 + 0.01)


def test_the_likelihood_ratio_finds_patients_that_a_model_remembers() -> None:
    """Each patient has a level of its own that says nothing, and membership adds to it."""
    rng = np.random.default_rng(5)
    level = rng.normal(size=200) * 10

    def confidences(members: np.ndarray) -> np.ndarray:
        noisy: np.ndarray = level + 2.0 * members + rng.normal(size=200) * 0.5
        return noisy

    scores, members = membership.attack(confidences, patients=200, models=8, coins=rng.random)
    assert judge(scores, members, claim(1.0), rng=rng).area > 0.98


# From here on, a hospital's own patients: few, with labels that nothing predicts, so that a model can only
# remember them.


def unusual_hospital(folder: Path, *, patients: int = 60, columns: int = 40) -> Path:
    rng = np.random.default_rng(2)
    site_file = write_hospital(folder, patients=patients)
    names = [f"c{number}" for number in range(columns)]
    rows = [
        [f"{CANARY}-{n}", *(f"{value:.3f}" for value in rng.normal(size=columns)), str(rng.integers(2))]
        for n in range(patients)
    ]
    table = [[f"{CANARY}-mrn", *names, "outcome"], *rows]
    (folder / "cohort.csv").write_text("\n".join(",".join(row) for row in table) + "\n")
    text = site_file.read_text().replace("loader: text", "loader: columns").replace("  text: note\n", "")
    text = text.replace("{recovered: recovered, deteriorated: deteriorated}", "{'0': recovered, '1': deteriorated}")
    text = text.replace("  groups:\n    sex: {column: sex, values: {female: female, male: male}}\n", "")
    text = text.replace("{train: 0.6, audit: 0.2, test: 0.2}", "{train: 1.0, audit: 0.0, test: 0.0}")
    site_file.write_text(text + "\n")
    listed = ", ".join(f"{name}: {name}" for name in names)
    site_file.write_text(site_file.read_text().replace("loader: columns", f"loader: columns\n  columns: {{{listed}}}"))
    return site_file


def tabular_study(folder: Path, *overrides: str, columns: int = 40) -> Path:
    asked = compose_study(["experiment=heart_disease", "rounds=10", "training.local_steps=4", *overrides]).value
    named = [Column(f"c{number}", -2.0, 2.0) for number in range(columns)]
    task = replace(asked.task, columns=named, labels=["recovered", "deteriorated"], positive="", groups=[])
    path = folder / "study.json"
    path.write_text(json.dumps(asdict(replace(asked, task=task))))
    return path


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["audit-privacy", *map(str, arguments)], env={"COLUMNS": "200"})
    assert CANARY not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.mark.slow
def test_without_privacy_patients_are_found_and_with_it_they_are_not(tmp_path: Path) -> None:
    site_file = unusual_hospital(tmp_path)
    open_ = tabular_study(tmp_path, "privacy=none", "privacy.max_grad_norm=null", "training.learning_rate=1.0")
    found = run(site_file, open_, "--json")
    assert found.exit_code == 0  # nothing is claimed
    told = json.loads(found.stdout, parse_constant=pytest.fail)
    assert told["claimed"]["epsilon"] is None
    assert told["membership"]["area"] > 0.85
    assert told["membership"]["area_low"] > 0.8
    assert "NO PRIVACY GUARANTEE" in run(site_file, open_).stdout
    private = json.loads(run(site_file, tabular_study(tmp_path, "privacy=patient"), "--canaries", 500, "--json").stdout)
    assert private["is_consistent"]
    assert 2.8 < private["claimed"]["epsilon"] <= 3.0  # the rest is for the statistics
    assert private["membership"]["area"] < gaussian.best_area(private["claimed"]["mu"])
    assert private["membership"]["area"] < told["membership"]["area"] - 0.1


@pytest.mark.slow
def test_nothing_is_charged_and_the_hospital_is_told_to_keep_it(tmp_path: Path) -> None:
    site_file = unusual_hospital(tmp_path)
    result = run(site_file, tabular_study(tmp_path, "privacy=patient"), "--canaries", 500, "--models", 4)
    assert result.exit_code == 0
    assert "Do not share this output" in result.stdout
    assert not list((tmp_path / "state").glob("*.jsonl"))  # neither ledger nor audit log


def test_canaries_alone_open_no_table_and_may_be_shared(tmp_path: Path) -> None:
    site_file = unusual_hospital(tmp_path)
    (tmp_path / "cohort.csv").unlink()
    result = run(site_file, tabular_study(tmp_path, "privacy=patient"), "--canaries", 500, "--models", 0)
    assert result.exit_code == 0
    assert "No patient was involved" in result.stdout
    assert not (tmp_path / "state").exists()


def test_a_violated_claim_ends_with_code_1_and_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, FAULTS["noise / 4"][0])
    site_file = unusual_hospital(tmp_path)
    result = run(site_file, tabular_study(tmp_path, "privacy=patient"), "--canaries", 500, "--models", 0)
    assert result.exit_code == 1
    assert result.stdout.lstrip().startswith("THE CLAIM DOES NOT HOLD")
    assert "MORE LEAKS THAN CLAIMED" in result.stdout


@pytest.mark.slow
def test_the_membership_attack_finds_training_without_the_claimed_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noiseless(model: Any, cohort: Any, **settings: Any) -> None:
        mechanism = replace(settings["mechanism"], noise_multiplier=0.0, max_grad_norm=10.0)
        training = replace(settings["training"], learning_rate=20.0)
        fine_tune_by_unit(model, cohort, **settings | {"mechanism": mechanism, "training": training})

    monkeypatch.setattr(privacy_audit, "fine_tune_by_unit", noiseless)
    site_file = unusual_hospital(tmp_path)
    asked = tabular_study(tmp_path, "privacy=patient", "privacy.epsilon=1")
    result = run(site_file, asked, "--canaries", 500, "--json")
    told = json.loads(result.stdout)
    assert (told["canaries"]["status"], told["membership"]["status"]) == ("consistent", "violated")
    assert result.exit_code == 1


@pytest.mark.parametrize("content", [None, "{", "[1]", '{"name": "x"}'])
def test_what_is_no_study_is_a_coded_error(content: str | None, tmp_path: Path) -> None:
    site_file = unusual_hospital(tmp_path)
    path = tmp_path / "study.json"
    if content is not None:
        path.write_text(content)
    result = run(site_file, path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "-E" in result.stderr


def test_too_few_models_to_attack_are_refused(tmp_path: Path) -> None:
    assert "0, or at least 4" in run(unusual_hospital(tmp_path), tmp_path, "--models", 2).stderr

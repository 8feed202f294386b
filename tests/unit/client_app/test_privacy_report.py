"""A hospital's own statement: its figures are its ledger's, and nothing of a patient is in it."""

import json
import math
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from client_app.cli import app
from client_app.ledger import SPLITS, Charge, Ledger, Limits, Split
from fedfm.privacy import Release, epsilon
from fedfm.statement_texts import HEADINGS
from tests.integration.conftest import CANARY, write_hospital

OPEN = Limits(run=math.inf, total=math.inf, delta=1e-3)
STATED = 1 / 600  # 1 / (10 * 60 declared patients) is above the policy's cap
DELTA = min(STATED, 1e-3)


def report(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["privacy-report", *map(str, arguments)])
    assert CANARY not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def charge(site_file: Path, split: Split, purpose: str, release: Release, *, run: str = "run-1") -> Release:
    ledger = Ledger(site_file.parent / "state", "hospital-a")
    ledger.charge(Charge(run, "demo", 1, split, purpose, release), OPEN)
    return release


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    return write_hospital(tmp_path, policy="max_epsilon: 6")


def test_an_unspent_ledger_still_has_every_heading(site_file: Path) -> None:
    result = report(site_file)
    assert result.exit_code == 0
    assert [line[3:] for line in result.stdout.splitlines() if line.startswith("## ")] == list(HEADINGS)
    assert "> **" not in result.stdout
    assert "50.0 %" in result.stdout
    assert not (site_file.parent / "state").exists()  # a report leaves nothing behind


def test_every_figure_equals_the_accountant_on_the_ledgers_history(site_file: Path) -> None:
    one = [charge(site_file, "train", "training", Release(9.0, 1.0, 4)) for _ in range(3)]
    two = [charge(site_file, "train", "training", Release(12.0, 0.5, 4), run="run-2")]
    test = [charge(site_file, "test", "evaluation", Release(5.0, 1.0, 9))]
    told = json.loads(report(site_file, "--json").stdout)
    assert told["spent"]["train"] == {
        f"{delta:.6g}": pytest.approx(epsilon([*one, *two], delta)) for delta in (DELTA, 1e-4, 1e-5, 1e-6)
    }
    assert told["spent"]["audit"] == dict.fromkeys(told["spent"]["audit"], 0.0)
    assert [entry["run"] for entry in told["runs"]] == ["run-1", "run-2"]
    assert told["runs"][0]["spent"]["train"] == pytest.approx(epsilon(one, DELTA))
    assert told["runs"][1]["spent"] == {"train": pytest.approx(epsilon(two, DELTA)), "audit": 0.0, "test": 0.0}
    text = report(site_file).stdout
    spent = epsilon([*one, *two], DELTA)
    assert f"| training patients | {spent:.3f} | 6 | {6 - spent:.3f} |" in text
    assert f"{epsilon(test, 1e-6):.3f}" in text
    assert "3 training" in text
    assert "not known here" in text  # no closed form for a history with sampling


def test_a_release_without_noise_is_shouted_and_is_no_number(site_file: Path) -> None:
    charge(site_file, "test", "evaluation", Release(0.0, 1.0, 1))
    result = report(site_file)
    assert result.stdout.splitlines()[2].startswith("> **NO PRIVACY GUARANTEE for test patients")
    told = json.loads(report(site_file, "--json").stdout, parse_constant=pytest.fail)
    assert set(told["spent"]["test"].values()) == {None}
    assert "NO PRIVACY GUARANTEE" in told["warnings"][0]


@pytest.mark.parametrize(
    ("policy", "word"),
    [
        ("allow_no_privacy: true", "allow_no_privacy"),
        ("allow_exact_evaluation: true", "allow_exact_evaluation"),
        ("units: [patient, record]", "RECORD"),
    ],
)
def test_a_policy_that_lets_go_of_privacy_is_warned_of(tmp_path: Path, policy: str, word: str) -> None:
    warning = [line for line in report(write_hospital(tmp_path, policy=policy)).stdout.splitlines() if "> **" in line]
    assert len(warning) == 1
    assert word in warning[0]


def test_a_statement_of_another_purpose_is_not_hidden(site_file: Path) -> None:
    charge(site_file, "audit", "something-new", Release(5.0, 1.0, 1))
    assert "| something-new | — | not described in this release of fedfm | 5 |" in report(site_file).stdout


def test_the_statement_goes_to_a_file_or_says_why_not(site_file: Path, tmp_path: Path) -> None:
    assert report(site_file, "--output", tmp_path / "privacy.md").exit_code == 0
    assert (tmp_path / "privacy.md").read_text() == report(site_file).stdout
    failed = report(site_file, "--output", tmp_path / "absent" / "privacy.md")
    assert failed.exit_code == 2
    assert "SITE-E154" in failed.stderr


def test_an_edited_ledger_gets_no_statement(site_file: Path) -> None:
    charge(site_file, "train", "training", Release(4.0, 1.0, 4))
    ledger = site_file.parent / "state" / "ledger-hospital-a.jsonl"
    ledger.write_text(ledger.read_text().replace('"noise_multiplier": 4.0', '"noise_multiplier": 9.0'))
    result = report(site_file)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "SITE-E115" in result.stderr
    assert set(SPLITS) == {"train", "audit", "test"}

"""``fedfm-site``: what IT sees of a good site, and of one with each thing wrong; a patient's value is never shown."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from client_app.audit_log import FILE, AuditLog
from client_app.budget import bar
from client_app.cli import app
from client_app.ledger import Charge, Ledger, Limits, Split
from fedfm.config.policy import policy_hash
from fedfm.config.site import Policy
from fedfm.privacy import Release, epsilon

CANARY = "ZZPATIENT"
WORDS = ("stable", "fever", "cough")


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    """A hospital of 60 patients with a canary in every row."""
    rows = [f"{CANARY}-{n:04d},{WORDS[n % 3]} {CANARY},{'ill' if n % 3 else 'well'},{'fm'[n % 2]}" for n in range(60)]
    (tmp_path / "cohort.csv").write_text("\n".join(["mrn,note,outcome,sex", *rows]) + "\n")
    path = tmp_path / "site.yaml"
    path.write_text(
        """id: hospital-a
declared_patients: 60
state: state
data:
  path: cohort.csv
  loader: text
  patient: mrn
  label: outcome
  label_map: {ill: deteriorated, well: recovered}
  text: note
  groups:
    sex: {column: sex, values: {f: female, m: male}}
  split: {train: 0.6, audit: 0.2, test: 0.2}
policy: {approval: none, max_epsilon: 4}
"""
    )
    return path


def change(site_file: Path, old: str, new: str) -> None:
    text = site_file.read_text()
    assert old in text
    site_file.write_text(text.replace(old, new))


def run(*arguments: object) -> Result:
    """The command's result; whatever happened, no canary was shown and nothing but a code ended it."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "110"})
    assert CANARY not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def spend(site_file: Path, split: Split, *, noise: float = 4.0) -> Release:
    """Charge one release, as a round does; noise 0 is one without protection."""
    release = Release(noise, 1.0, 2)
    open_ = Limits(run=math.inf, total=math.inf, delta=1e-3)
    Ledger(site_file.parent / "state", "hospital-a").charge(
        Charge("run-1", "demo", 1, split, "training", release), open_
    )
    return release


def line_of(text: str, word: str) -> str:
    return next(line for line in text.splitlines() if word in line)


def test_a_good_site_is_told_what_was_checked(site_file: Path) -> None:
    result = run("check", site_file)
    assert result.exit_code == 0
    assert result.stdout.startswith("OK  hospital-a\n")
    assert "4 columns, the 4 that the site file names" in result.stdout
    assert "whole, 0 charges" in result.stdout
    assert "whole, 0 decisions; 0 studies wait" in result.stdout
    assert f"policy     {policy_hash(Policy(approval='none', max_epsilon=4.0))[:12]}, approval none" in result.stdout
    assert result.stderr == ""
    assert not (site_file.parent / "state").exists()  # a check leaves nothing behind


def test_a_missing_site_file(tmp_path: Path) -> None:
    result = run("check", tmp_path / "absent.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "SITE-E032" in result.stderr


def test_a_missing_table(site_file: Path) -> None:
    (site_file.parent / "cohort.csv").unlink()
    result = run("check", site_file)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "SITE-E011" in result.stderr


def test_every_wrong_setting_is_shown_at_once(site_file: Path) -> None:
    change(site_file, "declared_patients: 60", "declared_patients: many")
    change(site_file, "max_epsilon: 4", "max_epsilon: -4")
    result = run("check", site_file)
    assert result.exit_code == 2
    assert "SITE-E003" in line_of(result.stderr, "E003")
    assert "SITE-E008" in line_of(result.stderr, "E008")


@pytest.mark.parametrize(
    ("old", "new", "setting"),
    [
        ("patient: mrn", "patient: MRN", "data.patient"),
        ("label: outcome", "label: outcom", "data.label"),
        ("text: note", "text: nte", "data.text"),
        ("column: sex", "column: gender", "data.groups.sex.column"),
        ("split: {train: 0.6, audit: 0.2, test: 0.2}", "split: {column: fold}", "data.split.column"),
        ("loader: text", "loader: template\n  template: '{note}; {age} years'", "data.template"),
        ("loader: text", "loader: columns\n  columns: {age: years}", "data.columns.age"),
    ],
)
def test_a_wrong_column_is_named_with_its_setting(site_file: Path, old: str, new: str, setting: str) -> None:
    change(site_file, old, new)
    result = run("check", site_file)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "SITE-E014" in result.stderr
    assert setting in result.stderr


def test_all_wrong_columns_are_shown_at_once(site_file: Path) -> None:
    change(site_file, "patient: mrn", "patient: MRN")
    change(site_file, "text: note", "text: nte")
    assert run("check", site_file).stderr.count("SITE-E014") == 2


def test_a_table_without_a_line_of_names_shows_no_row(site_file: Path) -> None:
    table = site_file.parent / "cohort.csv"
    table.write_text("\n".join(table.read_text().splitlines()[1:]) + "\n")
    result = run("check", site_file)  # the first patient's row is taken for names; none may be proposed
    assert result.exit_code == 2


@pytest.mark.parametrize("command", ["check", "budget", "audit"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.replace(b'"noise_multiplier": 4.0', b'"noise_multiplier": 9.0'),
        lambda content: content[: content.index(b"\n") - 20],
        lambda content: content[content.index(b"\n") + 1 :],
        lambda content: b"\xff\xfe" + content,
    ],
    ids=["edited", "torn", "cut", "bytes"],
)
def test_a_damaged_ledger_stops_every_command(site_file: Path, command: str, damage: Callable[[bytes], bytes]) -> None:
    spend(site_file, "train")
    spend(site_file, "train")
    ledger = site_file.parent / "state" / "ledger-hospital-a.jsonl"
    ledger.write_bytes(damage(ledger.read_bytes()))
    result = run(command, site_file)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "SITE-E115" in result.stderr
    assert "never delete it" in result.stderr


def test_a_ledger_that_cannot_be_read_is_no_empty_one(site_file: Path) -> None:
    (site_file.parent / "state" / "ledger-hospital-a.jsonl").mkdir(parents=True)
    result = run("budget", site_file)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "SITE-E150" in result.stderr


def test_a_damaged_audit_log_stops_check_and_audit(site_file: Path) -> None:
    AuditLog(site_file.parent / "state").entered("train", b"request", run="run-1", round_=1)
    log = site_file.parent / "state" / FILE
    log.write_text(log.read_text().replace("entered", "Entered"))
    assert run("check", site_file).exit_code == 2
    assert "SITE-E115" in run("audit", site_file).stderr


def test_an_unspent_budget(site_file: Path) -> None:
    result = run("budget", site_file)
    assert result.exit_code == 0
    assert "░" * 20 in line_of(result.stdout, "train")
    assert "█" not in result.stdout


def test_a_budget_shows_what_is_spent_and_left(site_file: Path) -> None:
    release = spend(site_file, "train")
    spent = epsilon([release], 60**-1.1 if 60**-1.1 < 1e-3 else 1e-3)
    result = run("budget", site_file)
    train, test = line_of(result.stdout, "train"), line_of(result.stdout, "test")
    assert f"{spent:.3f}" in train
    assert f"{4 - spent:.3f}" in train
    assert train.count("█") == round(20 * spent / 4)
    assert train.count("█") + train.count("░") == 20
    assert "0.000" in test
    told = json.loads(run("budget", site_file, "--json").stdout)
    deltas = told.pop("deltas")
    assert told == {
        "site": "hospital-a",
        "delta": 1e-3,
        "max_epsilon": 4.0,
        "spent": {"train": spent, "audit": 0.0, "test": 0.0},
        "unprotected": [],
        "runs": [{"study": "demo", "run": "run-1", "releases": {"training": 1}, "spent": {"train": spent}}],
        "purposes": [{"purpose": "training", "releases": 1, "spent": {"train": spent}}],
    }
    assert list(deltas) == ["0.001", "0.0001", "1e-05", "1e-06", "1e-07"]
    assert deltas["1e-05"] == {"train": epsilon([release], 1e-5), "audit": 0.0, "test": 0.0}


def test_a_budget_tells_where_it_went_and_at_any_delta(site_file: Path) -> None:
    ledger = Ledger(site_file.parent / "state", "hospital-a")
    parts: dict[str, list[Release]] = {"run-1": [], "20260101-000000-other": []}
    for run_, study, purpose, release in [
        ("run-1", "first", "statistics", Release(9.0, 1.0, 1)),
        ("run-1", "first", "training", Release(6.0, 0.5, 4)),
        ("20260101-000000-other", "other", "training", Release(8.0, 1.0, 4)),
    ]:
        ledger.charge(Charge(run_, study, 1, "train", purpose, release), Limits(100.0, 100.0, 1e-3))
        parts[run_].append(release)
    together = [release for those in parts.values() for release in those]
    result = run("budget", site_file, "--delta", "1e-6")
    assert "hospital-a at delta 1e-06" in result.stdout
    assert f"{epsilon(together, 1e-6):.3f}" in line_of(result.stdout, "train")
    first, other = line_of(result.stdout, "run-1 (first)"), line_of(result.stdout, "20260101-000000-other")
    assert f"{epsilon(parts['run-1'], 1e-6):.3f}" in first
    assert "1 statistics, 1 training" in first
    assert f"{epsilon(parts['20260101-000000-other'], 1e-6):.3f}" in other
    assert f"{epsilon(together[1:], 1e-6):.3f}" in line_of(result.stdout.partition("by purpose")[2], "training")
    for delta in ("0.001", "0.0001", "1e-05", "1e-06", "1e-07"):
        assert f"{epsilon(together, float(delta)):.3f}" in line_of(result.stdout.partition("other deltas")[2], delta)
    assert run("budget", site_file, "--delta", "1").exit_code == 2


def test_a_budget_of_many_runs_shows_the_last_and_keeps_all_for_machines(site_file: Path) -> None:
    ledger = Ledger(site_file.parent / "state", "hospital-a")
    for number in range(30):
        ledger.charge(
            Charge(f"[red]{number:02d}[/red]", "s", 1, "test", "evaluation", Release(50.0, 1.0, 1)),
            Limits(100.0, 100.0, 1e-3),
        )
    shown = run("budget", site_file).stdout
    assert "the last 12 of 30" in shown
    assert "[red]18[/red]" in shown
    assert "[red]17[/red]" not in shown
    assert len(json.loads(run("budget", site_file, "--json").stdout)["runs"]) == 30


def test_a_budget_beyond_a_cap_that_was_lowered(site_file: Path) -> None:
    spend(site_file, "train")
    change(site_file, "max_epsilon: 4", "max_epsilon: 0.1")
    train = line_of(run("budget", site_file).stdout, "train")
    assert "█" * 20 in train
    assert "nothing" in train


def test_a_release_without_protection_is_called_so(site_file: Path) -> None:
    spend(site_file, "test", noise=0.0)
    result = run("budget", site_file)
    assert result.exit_code == 0
    test = line_of(result.stdout, "test")
    assert "no protection" in test
    assert "nothing" in test
    assert "█" * 20 in test
    assert "inf" not in result.stdout
    assert "No protection: test patients" in result.stdout
    told = json.loads(run("budget", site_file, "--json").stdout, parse_constant=pytest.fail)
    assert (told["spent"]["test"], told["unprotected"]) == (None, ["test"])


def test_an_audit_before_anything_happened(site_file: Path) -> None:
    result = run("audit", site_file)
    assert result.exit_code == 0
    assert "None" not in result.stdout
    assert result.stdout.count("empty") == 2


def test_an_audit_shows_what_went_in_and_out_and_the_seals(site_file: Path) -> None:
    state = site_file.parent / "state"
    spend(site_file, "train")
    for round_ in range(1, 13):
        AuditLog(state).entered("train", b"request", run="[red]run[/red]", round_=round_)
        AuditLog(state).left("train", b"reply", run="[red]run[/red]", round_=round_)
    told = json.loads(run("audit", site_file, "--json").stdout)
    assert len(told["entries"]) == 24
    result = run("audit", site_file)
    assert result.exit_code == 0
    assert "last 20 of 24 entries" in result.stdout
    assert result.stdout.count("entered") == 10 + result.stdout.count("entered or")
    assert "[red]run[/red]" in result.stdout
    assert told["entries"][-1]["sha256"][:8] in result.stdout
    assert all(seal in result.stdout for seal in told["seals"].values())


@pytest.mark.parametrize(
    ("share", "filled"), [(0.0, 0), (1e-6, 1), (0.5, 10), (0.999, 19), (1.0, 20), (7.0, 20), (math.inf, 20)]
)
def test_a_bar_is_full_only_at_the_cap_and_empty_only_at_nothing(share: float, filled: int) -> None:
    assert bar(share) == "█" * filled + "░" * (20 - filled)

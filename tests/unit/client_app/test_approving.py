"""``fedfm-site approve`` and ``withdraw``: what a person is shown, and what follows from what is typed."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from client_app.approvals import FILE, Approvals, study_hash
from client_app.cli import app
from client_app.data import tables
from client_app.ledger import Charge, Limits, ledger_of
from client_app.plain import plain
from client_app.site import agreed_plan
from client_app.study_card import card_of
from fedfm.config.compose import compose_study, load_site, study_to_json
from fedfm.config.policy import policy_hash, task_hash
from fedfm.config.study import Study
from fedfm.errors import PolicyError
from fedfm.plan import of_split, planned
from fedfm.privacy import Release, epsilon
from tests.unit.client_app.test_pending import older
from tests.unit.fedfm.test_config_site import GOOD


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    """A hospital with a policy of its own, and no table: nothing here may open it."""
    (tmp_path / "site.yaml").write_text(GOOD)
    (tmp_path / "policy.yaml").write_text("max_epsilon: 4.0\n")
    return tmp_path / "site.yaml"


def study(*overrides: str) -> Study:
    found: Study = compose_study(
        ["experiment=demo", "training.sample_rate=1", *overrides]
    ).value  # which is quick to plan
    return found


def asked(site_file: Path, wanted: Study) -> str:
    """Let the trainer refuse the study, and return the first digits of its hash."""
    with pytest.raises(PolicyError):
        Approvals(load_site(site_file)).check(wanted)
    return study_hash(wanted)[:12]


def run(*arguments: object, typed: str | None = None) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=typed, env={"COLUMNS": "100"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "--json" in arguments or max(map(len, result.stdout.splitlines()), default=0) <= 100
    return result


def test_a_person_sees_what_is_asked_and_types_the_id(site_file: Path) -> None:
    wanted, site = study(), load_site(site_file)
    digest = asked(site_file, wanted)
    result = run("approve", site_file, digest, typed="hospital-a\nDr. Ada Berg\n")
    assert result.exit_code == 0, result.output
    shown = " ".join(result.stdout.split())
    made = agreed_plan(site, wanted)
    noise = made.training.noise_multiplier
    for words in (
        "purpose Show that hospitals can fine-tune one model together without sharing patients",
        f"weights {wanted.model.sha256}",
        f"study hash {study_hash(wanted)}",
        f"task hash {task_hash(wanted.task)}",
        f"policy hash {policy_hash(site.policy)}",
        "5 rounds of 6 steps",
        f"each of 5 rounds the update: trained parameters, after train patients {noise:.2f} in each step",
        "Nothing has been approved here before.",
        f"approved by Dr. Ada Berg: demo, {digest}",
    ):
        assert words in shown, words
    for split in ("train", "audit", "test"):
        value = epsilon(of_split(wanted, made, split), made.delta)
        assert f"{split} patients {value:.3f} 0.000 {value:.3f} 4 {4 - value:.3f}" in shown
    Approvals(site).check(wanted)


@pytest.mark.parametrize("typed", ["hospital-b\nAda\n", "\n", "yes\nAda\n", ""])
def test_anything_else_than_the_id_approves_nothing(site_file: Path, typed: str) -> None:
    result = run("approve", site_file, asked(site_file, study()), typed=typed)
    assert (result.exit_code, "SITE-E227" in result.stderr) == (2, True)
    assert not (site_file.parent / "state" / FILE).exists()


@pytest.mark.parametrize("typed", ["hospital-a\n", "hospital-a\n  \n"])
def test_nobody_approves_nothing(site_file: Path, typed: str) -> None:
    result = run("approve", site_file, asked(site_file, study()), typed=typed)
    assert result.exit_code == 2
    assert not (site_file.parent / "state" / FILE).exists()


def test_a_script_says_who_and_where(site_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.resolved.json"
    file.write_text(study_to_json(study()))
    assert run("approve", site_file, file, "--yes", "hospital-b", "--by", "Ada").exit_code == 2
    for arguments in ((), ("--by", "Ada")):  # shown only, and nobody is asked
        told = json.loads(run("approve", site_file, file, "--json", *arguments).stdout)
        assert told["approved"] is False
    assert run("approve", site_file, file, "--json", "--yes", "hospital-a").exit_code == 2  # by whom?
    told = json.loads(run("approve", site_file, file, "--json", "--yes", "hospital-a", "--by", "Ada").stdout)
    assert (told["approved"], told["refusals"], told["last"]) == (True, [], None)
    assert {one["split"] for one in told["spent"]} == {"train", "audit", "test"}
    listed = json.loads(run("approve", site_file, "--json").stdout)
    assert [(one["study"], one["action"], one["by"]) for one in listed["decided"]] == [
        (study_hash(study()), "approve", "Ada")
    ]


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("privacy.epsilon=5", "SITE-E101"),
        ("privacy.max_grad_norm=100", "SITE-E111"),
        ("rounds=1000", "SITE-E106"),
        ("privacy=none", "SITE-E103"),
        ("min_sites=3", "SITE-E105"),
    ],
)
def test_what_the_policy_refuses_cannot_be_approved(site_file: Path, tmp_path: Path, override: str, code: str) -> None:
    least = 50 if code == "SITE-E105" else 0.3
    (site_file.parent / "policy.yaml").write_text(f"max_epsilon: 4.0\nmin_noise_multiplier: {least}\n")
    (tmp_path / "study.json").write_text(study_to_json(study(override)))
    result = run("approve", site_file, tmp_path / "study.json", "--yes", "hospital-a", "--by", "Ada")
    assert result.exit_code == 1
    assert code in result.stdout.partition("The policy refuses this study")[2]
    assert "approved by" not in result.stdout
    assert not (site_file.parent / "state" / FILE).exists()


def test_what_was_spent_before_counts(site_file: Path) -> None:
    site = load_site(site_file)
    before = Release(1.0, 1.0, 1)
    ledger_of(site).charge(Charge("old", "old", 1, "audit", "loss", before), Limits(9.0, 9.0, 1e-4))
    card = card_of(site, study(), Approvals(site))
    made = agreed_plan(site, study())
    train, audit, _ = card.spent
    assert train.before == 0.0
    assert audit.before == epsilon([before], made.delta)
    assert audit.after == epsilon([before, *of_split(study(), made, "audit")], made.delta) > 4
    assert audit.left == 0.0
    assert card.refusals == ()  # a run that is under way may be approved again: the ledger ends it
    (warning,) = card.warnings
    assert "audit patients" in warning
    assert warning in " ".join(run("approve", site_file, asked(site_file, study()), typed="\n").stdout.split())


def test_every_release_of_the_plan_is_shown(site_file: Path) -> None:
    site = load_site(site_file)
    wanted = study("baseline=alone", "reweighting=kamiran_calders", "evaluation.groups_every=2", "weighting=fairfed")
    card = card_of(site, wanted, Approvals(site))
    made = planned(wanted, agreed_plan(site, wanted))
    assert [(one.release, len(one.rounds), one.noise) for one in card.leaving] == [
        (p.name, p.times, p.added) for p in made
    ]
    assert {one.release for one in card.leaving if not one.leaves} == {"reweighting", "alone"}


def test_the_difference_is_told_setting_by_setting(site_file: Path) -> None:
    first, second = study(), study("rounds=7", "training.sample_rate=0.5", "task.groups=[sex]", "task.intersections=[]")
    run("approve", site_file, asked(site_file, first), "--yes", "hospital-a", "--by", "Ada")
    result = run("approve", site_file, asked(site_file, second), typed="\n")
    shown = " ".join(result.stdout.partition("What differs")[2].split())
    assert "Compared with demo, approved" in shown
    for words in ("rounds 5 7", "training.sample_rate 1.0 0.5", 'task.groups ["sex", "age_band"] ["sex"]'):
        assert words in shown
    assert "privacy" not in shown
    assert "has changed since" not in shown
    (site_file.parent / "policy.yaml").write_text("max_epsilon: 3.5\n")
    shown = run("approve", site_file, study_hash(first)[:12], typed="\n").stdout
    assert "The policy here has changed since" in shown
    assert "No setting differs." in shown


def test_one_that_cannot_be_read_is_named_and_the_others_are_listed_and_approved(site_file: Path) -> None:
    """A file of an older release among those that wait."""
    digest = asked(site_file, study())
    lost = older(site_file.parent / "state")
    result = run("approve", site_file)
    assert (result.exit_code, digest in result.stdout) == (0, True)
    assert "SITE-E225" in result.stderr
    listed = json.loads(run("approve", site_file, "--json").stdout)
    assert (len(listed["pending"]), list(listed["unreadable"])) == (1, [lost])
    assert run("approve", site_file, lost[:12], "--yes", "hospital-a", "--by", "Ada").exit_code == 2
    assert run("approve", site_file, digest, "--yes", "hospital-a", "--by", "Ada").exit_code == 0


def test_withdrawing_needs_no_more_than_a_name(site_file: Path) -> None:
    digest = asked(site_file, study())
    run("approve", site_file, digest, "--yes", "hospital-a", "--by", "Ada")
    result = run("withdraw", site_file, digest, typed="Bo\n")
    assert (result.exit_code, "withdrawn by Bo: demo" in result.stdout) == (0, True)
    assert "withdraw" in run("approve", site_file).stdout
    assert run("withdraw", site_file, digest, "--by", "Bo").exit_code == 2
    assert run("withdraw", site_file, "abcdefabcdef", "--by", "Bo").exit_code == 2


def test_the_patients_table_is_not_opened(site_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "read_table", lambda *_: pytest.fail("opened"))
    assert run("approve", site_file, asked(site_file, study()), typed="\n").exit_code == 2


def test_a_coordinators_words_cannot_act_on_the_screen(site_file: Path) -> None:
    digest = asked(site_file, study("purpose='[red]cheap[/red] \u202etxet \u200b hidden'"))
    for result in (run("approve", site_file, digest, typed="\n"), run("approve", site_file)):
        assert "[red]cheap[/red] ·txet · hidden" in " ".join(result.stdout.split())
    assert plain("a\nb\tc\x1b[2J\x00d") == "a b c·[2J·d"
    assert (
        "purpose       not stated"
        in run("approve", site_file, asked(site_file, study("purpose=''")), typed="\n").stdout
    )


def test_a_long_text_does_not_scroll_the_page_away_and_is_told_from_another(site_file: Path) -> None:
    words = "many words " * 5000
    first, second = study(f"purpose='{words}'", "evaluation.every=2"), study(f"purpose='{words}x'")
    run("approve", site_file, asked(site_file, first), "--yes", "hospital-a", "--by", "Ada")
    for arguments in ((asked(site_file, second),), ()):
        result = run("approve", site_file, *arguments, typed="\n")
        assert len(result.stdout.splitlines()) < 140
        assert "(55001 letters, " in " ".join(result.stdout.split())
    shown = run("approve", site_file, asked(site_file, second), typed="\n").stdout
    row = " ".join(shown.partition("What differs")[2].split())
    assert row.count("many words") >= 2
    assert len({plain(words, most=60), plain(words + "x", most=60), plain(words + "y", most=60)}) == 3

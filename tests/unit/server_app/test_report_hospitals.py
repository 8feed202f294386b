"""What the report says of differences between hospitals and between groups, and of a run beside another."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedfm.metrics.between_sites import Spread
from fedfm.metrics.gains import tally
from fedfm.metrics.gaps import Gap, LocalGap
from fedfm.metrics.performance import Estimate
from server_app.cli import app
from server_app.report import events, judgements
from server_app.report.event_log import read_events
from server_app.report.page import write_report
from server_app.report.summary import summarise
from server_app.report.verdict import verdict
from tests.unit.server_app.federation import Hospital, federate, study_of
from tests.unit.server_app.test_report import STUDY, a_run, kept

GAINS: dict[str, dict[str, Estimate | None]] = {
    "hospital-a": {"accuracy": Estimate(0.06, 0.01, 0.11), "auroc": Estimate(0.08, 0.02, 0.14)},
    "hospital-b": {"accuracy": Estimate(-0.01, -0.06, 0.04), "auroc": None},
}
SPREAD = Spread(
    sites=2,
    worst=Estimate(0.7, 0.6, 0.8),
    worst_site="hospital-b",
    best=Estimate(0.8, 0.7, 0.9),
    best_site="hospital-a",
    mean=Estimate(0.75, 0.7, 0.8),
    shortfall=Estimate(0.05, 0.0, 0.1),
    range=Estimate(0.1, 0.0, 0.2),
    sd=Estimate(0.05, 0.0, 0.1),
    jain=Estimate(0.96, 0.9, 1.0),
    gini=None,
)


def gap(value: float) -> Gap:
    return Gap(Estimate(value, max(0.0, value - 0.06), value + 0.06), Estimate(0.8, 0.7, 0.9))


def apart(value: float) -> events.GapsEvaluated:
    local = {"sex": {"equal_opportunity": LocalGap(Estimate(0.3, 0.1, 0.5), "hospital-b", Estimate(0.2, 0.1, 0.3), 2)}}
    pooled = {"sex": {"equal_opportunity": gap(value), "demographic_parity": None}}
    return events.GapsEvaluated(2, pooled, {}, local)


def a_compared_run(value: float = 0.18, *, rule: str = "power", name: str = "run-1") -> list[events.Event]:
    """Two hospitals, of which one gains, one cannot be told; and one round in which b's loss was missing."""
    started, *rest = a_run()
    assert isinstance(started, events.RunStarted)
    study = {**STUDY, "weighting": {"rule": rule}, "fairness": {"limits": {"equal_opportunity": 0.1}}}
    happened: list[events.Event] = [replace(started, study=study, run=name), *rest[:-1]]
    happened = [
        replace(event, weights={"hospital-a": 0.4, "hospital-b": 0.6}, fallen_back=("hospital-b",))
        if isinstance(event, events.RoundCombined) and event.round == 1
        else event
        for event in happened
    ]
    measured = events.GainsMeasured(2, GAINS, tally(GAINS))
    return [*happened, events.SitesCompared(2, {"accuracy": SPREAD}), apart(value), measured, rest[-1]]


def rendered(folder: Path, happened: list[events.Event], *, other: Path | None = None) -> str:
    folder.mkdir(exist_ok=True)
    kept(folder, happened)
    write_report(folder, other=other)
    return (folder / "report.html").read_text()


def section(text: str, title: str) -> str:
    return text.partition(title)[2].partition("</section>")[0]


def test_they_are_read_back_as_they_were(tmp_path: Path) -> None:
    assert read_events(kept(tmp_path, a_compared_run())) == a_compared_run()


def test_the_verdict_says_how_many_hospitals_gained() -> None:
    found = verdict(summarise(a_compared_run()))
    assert found.gain == "1 of 2 hospitals gained over training alone (accuracy); 1 cannot be told apart."
    assert verdict(summarise(a_run())).gain == ""
    assert verdict(summarise(a_compared_run()[:-1])).gain == ""  # a failed run has nothing to boast of


def test_each_hospital_has_its_gain_its_weight_and_the_worst_is_named(tmp_path: Path) -> None:
    found = section(rendered(tmp_path, a_compared_run()), "How unlike the hospitals fare")
    assert found.count("<circle") == 3 + 4  # gains in AUROC of one, in accuracy of two; weights of two in two rounds
    assert "0.700 (0.60 to 0.80) hospital-b" in found
    assert row_of(found, "hospital-b") == ["0.500", "0.500", "0.600", "0.500", "1", "none"]


def test_weights_that_follow_from_the_cohorts_are_not_drawn(tmp_path: Path) -> None:
    assert "How much each hospital counted" not in rendered(tmp_path, a_compared_run(rule="cohort"))


def test_an_update_that_krum_leaves_aside_is_no_contribution(tmp_path: Path) -> None:
    """Three hospitals agree, two do not; of the three one is taken in each round."""
    hospitals = {name: Hospital(shift=shift) for name, shift in zip("abcde", (1.0, 1.1, 0.9, 50.0, -50.0), strict=True)}
    overrides = ("rounds=2", "combining=krum", "weighting=uniform", "min_sites=5")
    (tmp_path / "run").mkdir()
    outcome = federate(hospitals, tmp_path / "run", *overrides)
    study = json.loads(json.dumps(asdict(study_of(*overrides)), default=str))
    started, ended = events.RunStarted("r", study, "l", 1, "x"), events.RunEnded("completed", "", "", 1.0)
    happened = [started, *outcome.happened, ended]
    found = verdict(summarise(happened))
    assert found.headline == "Completed: 1 of 5 hospitals contributed to all 2 rounds."
    of_each = "; ".join(f"{name} in 2 of 2 rounds" for name in "bcde")
    assert f"Updates that came and were not used (combining=krum): {of_each}." in found.reasons
    weights = rendered(tmp_path / "report", happened).partition("How much each hospital counted")[2]
    assert "An update that was not chosen has a share of 0." in weights
    assert row_of(weights, "a")[-1] == "none"
    assert row_of(weights, "e")[-1] == "1-2"


def row_of(text: str, name: str) -> list[str]:
    row = text.partition(f'<th scope="row">{name}</th>')[2].partition("</tr>")[0]
    return re.findall("<td[^>]*>([^<]*)", row)


@pytest.mark.parametrize(
    ("rule", "combining", "said"),
    [
        ("power", "linear", "A hospital whose signal was missing counts with its cohort."),
        ("fedfv", "linear", "A hospital whose loss was missing is taken to have the mean loss of the others."),
        ("cohort", "norm_clipping", "Long updates are shortened, so that shares may sum to less than 1."),
        ("fednova", "linear", "in the global model, round by round.</p>"),
    ],
)
def test_what_weights_mean_is_said_by_rule(rule: str, combining: str, said: str, tmp_path: Path) -> None:
    started, *rest = a_compared_run(rule=rule)
    assert isinstance(started, events.RunStarted)
    happened = [replace(started, study={**started.study, "combining": {"rule": combining}}), *rest]
    found = rendered(tmp_path, happened).partition("How much each hospital counted")[2].partition("<table")[0]
    assert said in found
    assert ("cohort" in found) == (rule == "power")


def test_a_run_whose_rounds_name_no_site_has_a_page(tmp_path: Path) -> None:
    """Such as a log from which the lines of the sites are gone."""
    bare = [event for event in a_compared_run() if not hasattr(event, "site")]
    measured = judgements.ContributionMeasured(2, "shapley", {}, 0.0, 0)
    assert "How much each hospital counted" in rendered(tmp_path, [*bare[:-1], measured, bare[-1]])


def test_a_gap_is_drawn_with_its_limit_and_an_unknown_one_is_a_dash(tmp_path: Path) -> None:
    found = section(rendered(tmp_path, a_compared_run()), "How far apart groups of patients are")
    assert found.count("<circle") == 1
    assert found.count('class="budget"') == 1
    assert "0.180 (0.12 to 0.24)" in found
    assert "0.300 (0.10 to 0.50) hospital-b" in found
    unknown = found.partition("sex: demographic parity")[2].partition("</tr>")[0]
    assert not any(letter.isdigit() for letter in unknown)


def test_what_lies_beyond_a_limit_and_which_round_was_chosen_is_in_the_verdict() -> None:
    *run, ended = a_compared_run()
    figure = Estimate(0.3, 0.12, 0.4)
    found = verdict(
        summarise(
            [
                *run,
                judgements.ToleranceExceeded(1, "accuracy", "sex", figure, 0.1, "report"),  # of an earlier evaluation
                judgements.ToleranceExceeded(2, "equal_opportunity", "sex", figure, 0.1, "report"),
                judgements.ToleranceExceeded(2, "worst_site", "", figure, 0.1, "report"),
                judgements.FinalChosen(1, ("lowest loss on audit patients",)),
                ended,
            ]
        )
    )
    assert found.reasons[:3] == (
        "The equal opportunity gap by sex is 0.30 (0.12 to 0.40), beyond the limit of 0.1.",
        "The worst hospital is 0.30 (0.12 to 0.40) below the mean, beyond the limit of 0.1.",
        "The result is the model of round 1: lowest loss on audit patients.",
    )


def test_contributions_are_summed_over_rounds(tmp_path: Path) -> None:
    *run, ended = a_run()
    brought = [
        judgements.ContributionMeasured(1, "shapley", {"hospital-a": 0.25, "hospital-b": -0.125}, 0.125, 4),
        judgements.ContributionMeasured(2, "shapley", {"hospital-a": 0.25}, 0.25, 2),
    ]
    found = section(rendered(tmp_path, [*run, *brought, ended]), "What each hospital has brought")
    assert "+0.5000" in found
    assert "-0.1250" in found
    assert "+0.3750" in found
    assert found.count("<circle") == 3
    assert "What each hospital has brought" not in rendered(tmp_path / "without", a_run())


def test_a_run_without_them_has_no_such_section(tmp_path: Path) -> None:
    text = rendered(tmp_path, a_run())
    assert "How unlike the hospitals fare" not in text
    assert "How far apart groups" not in text


def test_two_runs_stand_beside_each_other_with_what_differs(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    rendered(plain, a_compared_run(0.3, name="run-plain", rule="cohort"))
    found = section(rendered(tmp_path / "fair", a_compared_run(), other=plain), "Beside run-plain")
    assert "Equal opportunity gap by sex" in found
    assert "0.180 (0.12 to 0.24)" in found
    assert "0.300 (0.24 to 0.36)" in found
    assert "weighting.rule" in found
    assert "privacy.epsilon" not in found  # the same in both


def test_the_command_takes_another_run(tmp_path: Path) -> None:
    for name in ("one", "two"):
        rendered(tmp_path / name, a_compared_run(name=name))
    result = CliRunner().invoke(app, ["report", str(tmp_path / "one"), "--beside", str(tmp_path / "two")])
    assert result.exit_code == 0
    assert "1 of 2 hospitals gained" in result.output
    assert "Beside two" in (tmp_path / "one" / "report.html").read_text()
    missing = CliRunner().invoke(app, ["report", str(tmp_path / "one"), "--beside", str(tmp_path / "three")])
    assert missing.exit_code == 2
    assert "REPORT-E001" in missing.output

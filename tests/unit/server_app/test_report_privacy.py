"""A run's statement at the coordinator: from events alone, as the sites said and as the study plans."""

import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fedfm.config.compose import compose_study
from fedfm.plan import plan
from fedfm.plan import planned as planned_releases
from fedfm.privacy import Release, epsilon
from fedfm.privacy_statement import markdown
from fedfm.statement_texts import HEADINGS
from fedfm.wire import PrivacySpent
from server_app.report import events
from server_app.report.page import write_report
from server_app.report.privacy import run_statement
from server_app.report.summary import summarise
from tests.unit.server_app.test_report import FIGURES, kept

SPENT = PrivacySpent("patient", 1e-3, 2.345, 0.5, 0.625, 1.987, 2.98, 1.2)


def a_run(*overrides: str, spent: PrivacySpent = SPENT) -> list[events.Event]:
    study = compose_study(["model=tiny", "adapter=head", "rounds=2", *overrides]).value
    return [
        events.RunStarted("run-1", asdict(study), "abc", 1090, "0.1.0"),
        events.SiteJoined("hospital-a", 0, 60, "cpu", ("sex",), spent),
        events.RoundStarted(1, ("hospital-a",), 4000),
        events.SiteTrained("hospital-a", 1, 1.5, 0.3, 4000, spent),
        events.RoundCombined(1, {"hospital-a": 1.0}, 0.3, 0.01),
        events.SiteEvaluated("hospital-a", 1, 0.5, FIGURES, spent),
        events.RunEnded("completed", "", "", 12.5),
    ]


def stated(*overrides: str, spent: PrivacySpent = SPENT) -> str:
    return markdown(run_statement(summarise(a_run(*overrides, spent=spent))))


def test_every_heading_is_there_and_the_sites_figures_are_what_they_said() -> None:
    text = stated()
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(HEADINGS)
    assert "> **" not in text
    assert "| hospital-a | patient | 1.987 | 2.980 | 2.345 | 0.625 | 0.500 | 0.001 | 1 |" in text


def test_the_heads_stand_there_as_one_types_them_behind_an_anchor() -> None:
    ledger, audit = "ab" * 32, "cd" * 32
    text = stated(spent=replace(SPENT, entries=7, seal=ledger, audit_entries=24, audit_seal=audit))
    assert f"| hospital-a | 7:{ledger} | 24:{audit} |" in text
    assert "| hospital-a | none | none |" in stated()


def test_planned_figures_are_those_of_the_plan() -> None:
    study = compose_study(["model=tiny", "adapter=head", "rounds=2"]).value
    planned = plan(study, delta=1e-3)
    text = stated()
    assert f"| any site, training patients, planned | {planned.planned:.3f} | 0.001 |" in text
    steps = Release(planned.training.noise_multiplier, 1.0, 2 * planned.training.steps)
    assert f"{epsilon([steps], 1e-6):.3f}" in text
    assert f"| {planned.training.noise_multiplier:.4g} | 1 | {planned.training.steps} | 2 |" in text
    listed = {one.name for one in planned_releases(study, planned)}
    assert ("sum of clipped losses" in text) == ("loss" in listed)
    assert ("count by group" in text) == ("last_groups" in listed)


def test_a_run_without_privacy_is_shouted_whatever_a_site_says_it_spent() -> None:
    text = stated("privacy=none", spent=replace(SPENT, unit="none", run=0.0, planned=math.inf))
    lines = [line for line in text.splitlines() if line]
    assert lines[1].startswith("> **NO PRIVACY GUARANTEE for hospital-a, training patients, this run; any site")
    assert "∞ NO PRIVACY GUARANTEE" in text


def test_exact_counts_and_records_are_warned_of() -> None:
    warnings = [line for line in stated("evaluation=exact").splitlines() if line.startswith("> **")]
    assert any("EXACT" in line for line in warnings)
    assert "RECORD" in stated("privacy=record", spent=replace(SPENT, unit="record"))


def test_a_study_of_another_release_has_a_statement_that_says_so() -> None:
    happened = a_run()
    happened[0] = replace(happened[0], study={"rounds": 2})  # type: ignore[type-var]
    text = markdown(run_statement(summarise(happened)))
    assert "cannot be planned here: STUDY-E" in text
    assert "| hospital-a | patient | 1.987 |" in text


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_run_that_broke_off_has_a_statement(count: int) -> None:
    made = run_statement(summarise(a_run()[:count]))
    assert tuple(section.heading for section in made.sections) == HEADINGS


def test_the_page_shows_the_statement_and_the_file_lies_beside_it(tmp_path: Path) -> None:
    kept(tmp_path, a_run("privacy=none", spent=replace(SPENT, unit="none", run=math.inf)))
    write_report(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert [page.count(f"<h3>{heading}</h3>") for heading in HEADINGS] == [1] * len(HEADINGS)
    assert page.count('<p class="privacy alarm">') == 2  # the verdict's, and the statement's
    assert (tmp_path / "privacy.md").read_text().startswith("# Privacy statement of run run-1\n")
    assert '"privacy.md"' in (tmp_path / "manifest.json").read_text()

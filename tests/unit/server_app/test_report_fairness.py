"""What the report says of groups and of audit losses, and that older runs without them are still read."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedfm.metrics.groups import GroupFigures
from fedfm.metrics.performance import Estimate, performance
from server_app.report import console, events
from server_app.report.event_log import read_events
from server_app.report.markup import UNKNOWN
from server_app.report.page import _cells, write_report
from tests.unit.server_app.test_report import a_run, kept

FEMALE = GroupFigures(Estimate(80, 70, 90), Estimate(0.75, 0.6, 0.9), Estimate(0.5, 0.3, 0.7), Estimate(0.25, 0.1, 0.4))
MALE = GroupFigures(Estimate(40, 30, 50), Estimate(0.875, 0.7, 1.0), None, Estimate(0.2, 0.1, 0.4))
GROUPS = events.GroupsEvaluated(2, {"sex=male": MALE, "sex=female": FEMALE, "age_band=under 40": None})
LOSSES = [
    events.LossMeasured(1, {"hospital-a": Estimate(0.9, 0.7, 1.1), "hospital-b": None}, Estimate(0.85, 0.7, 1.0)),
    events.LossMeasured(2, {"hospital-a": Estimate(0.6, 0.4, 0.8), "hospital-b": None}, Estimate(0.55, 0.4, 0.7)),
]


def a_fair_run() -> list[events.Event]:
    started, *rest = a_run()
    assert isinstance(started, events.RunStarted)
    named = replace(started, study={**started.study, "task": {"labels": ["recovered", "deteriorated"]}})
    return [named, *rest[:-1], GROUPS, *LOSSES, rest[-1]]


def rendered(folder: Path, happened: list[events.Event]) -> str:
    kept(folder, happened)
    write_report(folder)
    return (folder / "report.html").read_text()


def test_groups_and_losses_are_read_back_as_they_were(tmp_path: Path) -> None:
    assert read_events(kept(tmp_path, a_fair_run())) == a_fair_run()


def test_a_run_without_them_has_no_such_section(tmp_path: Path) -> None:
    text = rendered(tmp_path, a_run())
    assert "groups of patients" not in text
    assert "audit patients</h2>" not in text


def test_each_group_has_its_row_and_the_small_one_a_dash(tmp_path: Path) -> None:
    text = rendered(tmp_path, a_fair_run())
    section = text.partition("How good it is for groups of patients")[2].partition("</section>")[0]
    assert "sex: female" in section
    assert "0.500 (0.30 to 0.70)" in section
    small = section.partition("age band: under 40")[2].partition("</tr>")[0]
    assert not any(letter.isdigit() for letter in small)
    assert "Sensitivity by sex" in section
    assert "by age band" not in section  # nothing to draw
    assert (
        section.count('class="whisker site s') == section.count("<circle") == 3
    )  # accuracy of two, sensitivity of one


def test_losses_are_drawn_on_an_axis_of_their_own(tmp_path: Path) -> None:
    text = rendered(tmp_path, a_fair_run())
    section = text.partition("How surprised the model is by audit patients")[2].partition("</section>")[0]
    assert "Loss over rounds" in section
    assert "has a loss of 0.69" in section
    assert "0.550 (0.40 to 0.70)" in section
    assert ">1.20</text>" in section  # the top of the axis
    assert ">0.90</text>" in section
    assert "hospital-b" in section  # though nothing can be said of it


def test_the_table_of_figures_holds_them(tmp_path: Path) -> None:
    rendered(tmp_path, a_fair_run())
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = {(row["round"], row["site"], row["figure"]): row["value"] for row in csv.DictReader(file)}
    assert rows["2", "all", "sensitivity[sex=female]"] == "0.5"
    assert rows["2", "all", "patients[sex=male]"] == "40.0"
    assert rows["1", "hospital-a", "audit_loss"] == "0.9"
    assert rows["2", "all", "audit_loss"] == "0.55"
    assert not [key for key in rows if "under 40" in key[2] or key[1:] == ("hospital-b", "audit_loss")]
    assert ("2", "all", "sensitivity[sex=male]") not in rows


def test_the_console_says_how_many_groups_are_too_small() -> None:
    line = console.line(GROUPS)
    assert "sex=female 0.750 (0.600 to 0.900)" in line
    assert line.endswith("1 with too few patients")
    assert "0.550" in console.line(LOSSES[1])
    assert "too few" in console.line(replace(LOSSES[1], together=None))


def test_hostile_names_of_groups_are_text(tmp_path: Path) -> None:
    hostile = events.GroupsEvaluated(2, {"sex=<script>alert(1)</script>": FEMALE})
    text = rendered(tmp_path, [*a_run()[:-1], hostile, a_run()[-1]])
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_a_report_prints_no_noised_count_of_few() -> None:
    few, many = np.full((2, 2), 2.5), np.full((2, 2), 26.0)
    for cells, sd, printed in ((few, 1.0, UNKNOWN), (many, 1.0, "104"), (few, 0.0, "10")):
        assert _cells(performance(cells, cells_sd=sd, positive=1))[0] == printed

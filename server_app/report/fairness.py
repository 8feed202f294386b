"""The report on whom the model serves how well: groups of patients, and each hospital's audit patients."""

import math
from collections.abc import Mapping

from fedfm.metrics.groups import GroupFigures
from fedfm.metrics.performance import LEAST_PATIENTS, Estimate
from server_app.report.charts import Series, curves, forest, said
from server_app.report.markup import UNKNOWN, Element, element, table
from server_app.report.summary import EVERYONE, Summary

_ABOUT_GROUPS = (
    "Test patients of all hospitals that can name the group, counted once, after the last round, with the noise that "
    "protects them; intervals (95 %) hold both chance and noise. Intervals that overlap leave open whether two "
    f"groups differ. No figure is given that may stand for fewer than {LEAST_PATIENTS} patients."
)
_ABOUT_LOSS = (
    "Cross-entropy of each audit patient, in nats, clipped before it is added up and noised; the lower the better. "
    "These patients neither train nor test. A single hospital's line carries much more noise than that of all together."
)
_FIGURES = {"accuracy": "Accuracy", "sensitivity": "Sensitivity", "selection": "Called positive"}


def by_groups(summary: Summary) -> Element | None:
    """Return the section on groups of patients; None where none were counted."""
    if summary.groups is None:
        return None
    number, groups = summary.groups.round, summary.groups.groups
    attributes: dict[str, dict[str, GroupFigures | None]] = {}
    for key in sorted(groups, key=lambda key: (key.partition("=")[0], not _group(key).startswith("under "), key)):
        attributes.setdefault(key.partition("=")[0], {})[_group(key)] = groups[key]
    charts = [
        part
        for colour, (attribute, members) in enumerate(attributes.items())
        for name in ("accuracy", "sensitivity")
        for part in _forest(f"{_FIGURES[name]} by {_words(attribute)}", members, name, number=number, colour=colour)
    ]
    rows = [
        [f"{_words(attribute)}: {group}", *_cells(figures)]
        for attribute, members in attributes.items()
        for group, figures in members.items()
    ]
    caption = f"After round {number}; a dash: too few patients for the noise, or fewer than {LEAST_PATIENTS}."
    return element(
        "section",
        element("h2", "How good it is for groups of patients"),
        element("p", _ABOUT_GROUPS, class_="soft"),
        charts,
        table(caption, ["Group", "Test patients", *_FIGURES.values()], rows),
    )


def audit_losses(summary: Summary) -> Element | None:
    """Return the section on the loss of audit patients; None where it was not measured."""
    if not summary.losses:
        return None
    sites = sorted({site for event in summary.losses for site in event.sites})
    colours = {site.site: colour for colour, site in enumerate(summary.sites)}
    measured: dict[str, dict[int, Estimate | None]] = {
        site: {event.round: event.sites.get(site) for event in summary.losses} for site in sites
    }
    measured[EVERYONE] = {event.round: event.together for event in summary.losses}
    known = {name: {n: figure for n, figure in line.items() if figure is not None} for name, line in measured.items()}
    series = [Series(name, points, colours.get(name)) for name, points in known.items() if points]
    last = summary.losses[-1].round
    rows = [[name, UNKNOWN if (figure := line.get(last)) is None else said(figure)] for name, line in measured.items()]
    return element(
        "section",
        element("h2", "How surprised the model is by audit patients"),
        element("p", _ABOUT_LOSS, _guessing(summary), class_="soft"),
        _curves(series, rounds=last),
        table(f"After round {last}; a dash: too few patients for the noise.", ["Site", "Mean loss"], rows),
    )


def _forest(
    title: str, members: Mapping[str, GroupFigures | None], name: str, *, number: int, colour: int
) -> list[Element]:
    figures = {group: getattr(member, name) for group, member in members.items() if member is not None}
    rows = [Series(group, {number: figure}, colour) for group, figure in figures.items() if figure is not None]
    return [element("h3", title), forest(title, rows, number=number)] if rows else []


def _curves(series: list[Series], *, rounds: int) -> list[Element]:
    if max((len(line.points) for line in series), default=0) < 2:
        return []
    highest = max(point.value for line in series for point in line.points.values())
    title = "Loss over rounds"
    top = max(0.4, math.ceil(2.5 * highest) / 2.5)  # ticks at tenths
    return [element("h3", title), curves(title, series, rounds=rounds, span=(0.0, top))]


def _guessing(summary: Summary) -> str:
    labels = summary.setting("task", "labels")
    if not isinstance(labels, list) or len(labels) < 2:
        return ""
    return f" Who gives each of the {len(labels)} classes the same chance has a loss of {math.log(len(labels)):.2f}."


def _cells(figures: GroupFigures | None) -> list[str]:
    if figures is None:
        return [UNKNOWN] * (1 + len(_FIGURES))
    shares = [getattr(figures, name) for name in _FIGURES]
    return [f"{figures.patients.value:.0f}", *(UNKNOWN if figure is None else said(figure) for figure in shares)]


def _group(key: str) -> str:
    return key.partition("=")[2]


def _words(attribute: str) -> str:
    return attribute.replace("_", " ")

"""The report on how far apart groups of patients are, in this run and beside another one."""

from collections.abc import Iterator, Mapping

from fedfm.metrics.gaps import GAPS, Gap
from fedfm.metrics.performance import Estimate
from server_app.report.charts import Axis, Series, forest, said
from server_app.report.markup import UNKNOWN, Element, element, table
from server_app.report.summary import Summary

_ABOUT = (
    "Largest minus smallest of the groups' figures, over the test patients of all hospitals that can name them: share "
    "called positive (demographic parity), share of the positive found (equal opportunity), the worse of that and of "
    "false alarms (equalized odds), and accuracy. With few patients a gap is seen even where there is none, so look at "
    "the lower end of the interval (95 %, chance and noise)."
)
_LOCAL = "A model can be even over all patients and uneven in each hospital, and the other way round."


def by_gaps(summary: Summary) -> Element | None:
    """Return the section on gaps between groups; None where none were measured."""
    if summary.gaps is None:
        return None
    number, parts = summary.gaps.round, []
    for colour, (attribute, gaps) in enumerate(sorted(summary.gaps.pooled.items())):
        rows = [Series(_words(name), {number: gap.difference}, colour) for name, gap in _known(gaps)]
        if rows:
            title = f"Gaps by {_words(attribute)}"
            limits = _limits(summary, [name for name, _ in _known(gaps)])
            parts += [element("h3", title), forest(title, rows, number=number, axis=_axis(rows, number), marks=limits)]
    head = ["Gap", "All patients", "Smallest over largest", "Worst hospital", "Mean of hospitals"]
    caption = f"After round {number}; a dash: a group has too few patients for the noise, or no patient that counts."
    return element(
        "section",
        element("h2", "How far apart groups of patients are"),
        element("p", _ABOUT, class_="soft"),
        parts,
        table(caption, head, _rows(summary)),
        element("p", _LOCAL, class_="soft"),
    )


def beside(summary: Summary, other: Summary) -> Element:
    """Return the section that sets this run beside another: the gaps that both know, and what accuracy it cost."""
    names = [_name(summary), _name(other)]
    parts: list[Element | None] = []
    for attribute, gap, pair in _shared(summary, other):
        rows = [
            Series(name, {1: figure}, colour) for colour, (name, figure) in enumerate(zip(names, pair, strict=True))
        ]
        title = f"{_words(gap).capitalize()} gap by {_words(attribute)}"
        parts += [element("h3", title), forest(title, rows, number=1, axis=_axis(rows, 1))]
    last = [run.performance[max(run.performance)] for run in (summary, other) if run.performance]
    accuracy = [
        Series(name, {1: figures.accuracy}, colour)
        for colour, (name, figures) in enumerate(zip(names, last, strict=False))
        if figures.accuracy is not None
    ]
    if accuracy:
        parts += [element("h3", "Accuracy"), forest("Accuracy of both runs", accuracy, number=1)]
    differing = _differing(summary, other)
    return element(
        "section",
        element("h2", f"Beside {names[1]}"),
        element("p", "Two runs, the same figures. Intervals that overlap leave open which is better.", class_="soft"),
        parts or element("p", "The two runs have no figure in common."),
        table("Settings in which they differ.", ["Setting", *names], differing) if differing else None,
    )


def _rows(summary: Summary) -> Iterator[list[str]]:
    if summary.gaps is None:
        return
    for attribute, gaps in sorted(summary.gaps.pooled.items()):
        for name in GAPS:
            gap, local = gaps.get(name), summary.gaps.local.get(attribute, {}).get(name)
            yield [
                f"{_words(attribute)}: {_words(name)}",
                UNKNOWN if gap is None else said(gap.difference),
                UNKNOWN if gap is None or gap.ratio is None else said(gap.ratio),
                UNKNOWN if local is None else f"{said(local.worst)} {local.site}",
                UNKNOWN if local is None else f"{said(local.mean)} of {local.sites}",
            ]


def _known(gaps: Mapping[str, Gap | None]) -> list[tuple[str, Gap]]:
    return [(name, gap) for name in GAPS if (gap := gaps.get(name)) is not None]


def _axis(rows: list[Series], number: int) -> Axis:
    """Return an axis from 0 to the next quarter above what is drawn."""
    highest = max(row.points[number].high for row in rows)
    return Axis(0.0, next((top for top in (0.25, 0.5, 0.75) if highest <= top), 1.0))


def _limits(summary: Summary, names: list[str]) -> list[float | None]:
    limits = summary.setting("fairness", "limits")
    return [limits.get(name) if isinstance(limits, dict) else None for name in names]


def _shared(summary: Summary, other: Summary) -> Iterator[tuple[str, str, tuple[Estimate, Estimate]]]:
    if summary.gaps is None or other.gaps is None:
        return
    for attribute, gaps in sorted(summary.gaps.pooled.items()):
        for name, gap in _known(gaps):
            its = other.gaps.pooled.get(attribute, {}).get(name)
            if its is not None:
                yield attribute, name, (gap.difference, its.difference)


def _differing(summary: Summary, other: Summary) -> list[list[str]]:
    ours, theirs = (_flat(run.started.study if run.started else {}) for run in (summary, other))
    keys = sorted(ours.keys() | theirs.keys())
    return [[key, ours.get(key, UNKNOWN), theirs.get(key, UNKNOWN)] for key in keys if ours.get(key) != theirs.get(key)]


def _flat(study: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in study.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = str(value)
    return found


def _name(summary: Summary) -> str:
    return summary.started.run if summary.started else "run"


def _words(name: str) -> str:
    return name.replace("_", " ").replace("*", " and ")

"""Charts as inline SVG. Each has a title and a description; the tables beside them say the same in text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fedfm.metrics.performance import Estimate
from server_app.report.markup import Element, element

_WIDTH = 720
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 150, 14, 34
_NAMES, _LONGEST = 196, 24  # room for the names of rows, in pixels and in letters
_COLOURS = 8


@dataclass(frozen=True)
class Series:
    """Round to estimate, for one site or for all of them together; ``colour`` is None for all together."""

    name: str
    points: Mapping[int, Estimate]
    colour: int | None

    @property
    def style(self) -> str:
        """The style sheet's classes; a site has the same colour in every chart."""
        return "total" if self.colour is None else f"site s{self.colour % _COLOURS}"


@dataclass(frozen=True)
class Axis:
    """What a chart's axis shows: from ``low`` to ``high``."""

    low: float
    high: float


_SHARES = Axis(0.0, 1.0)


def curves(title: str, series: Sequence[Series], *, rounds: int, span: tuple[float, float] | None = None) -> Element:
    """Return lines over rounds; the total is thick and has its interval as a band.

    Args:
        title: Heading, for those who cannot see it.
        series: One line each; not empty.
        rounds: Last round.
        span: What the axis shows; None for shares: from a quarter below the lowest value, up to 1.
    """
    height = 300
    floor, top = (_floor(series), 1.0) if span is None else span

    def x(number: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * ((number - 1) / max(1, rounds - 1) if rounds > 1 else 0.5)

    def y(value: float) -> float:
        return _TOP + (height - _TOP - _BOTTOM) * (1 - (min(max(value, floor), top) - floor) / (top - floor))

    labels = _spread([y(line.points[max(line.points)].value) for line in series], low=_TOP, high=height - _BOTTOM)
    drawn = [_axis(floor, top, y), _round_labels(rounds, x, height)]
    for line, label in zip(series, labels, strict=True):
        drawn += _curve(line, x, y)
        last = max(line.points)
        label_of = f"{line.name[:16]} {line.points[last].value:.2f}"
        drawn.append(element("text", label_of, x=x(last) + 10, y=round(label + 4, 1), class_=f"label {line.style}"))
    said = "; ".join(f"{line.name}: " + ", ".join(f"{p.value:.3f}" for p in line.points.values()) for line in series)
    return figure(title, f"{title} by round. {said}", height, drawn)


def forest(
    title: str,
    series: Sequence[Series],
    *,
    number: int,
    axis: Axis = _SHARES,
    marks: Sequence[float | None] = (),
) -> Element:
    """Return the estimates of one round, each a point with its 95 % interval.

    Args:
        title: Heading, for those who cannot see it.
        series: One row each; not empty.
        number: The round.
        axis: What the axis shows; what lies beyond is cut off at its ends.
        marks: A value of each row to be judged by, such as a limit; None or nothing where there is none.
    """
    rows = [(line.name, line.points[number], line.style) for line in series]
    step, left = 30, _NAMES
    height = _TOP + step * len(rows) + _BOTTOM

    def x(value: float) -> float:
        inside = min(max(value, axis.low), axis.high)
        return left + (_WIDTH - left - 190) * (inside - axis.low) / (axis.high - axis.low)

    ticks = [axis.low + (axis.high - axis.low) * part / 4 for part in range(5)]
    drawn = [element("g", [_tick(x(tick), _TOP, height - _BOTTOM, f"{tick:.3g}") for tick in ticks])]
    for index, mark in enumerate(marks):
        if mark is not None:
            at, top = round(x(mark), 1), _TOP + step * index
            drawn.append(element("line", x1=at, x2=at, y1=top, y2=top + step, class_="budget"))
    for index, (name, found, style) in enumerate(rows):
        y = _TOP + step * (index + 0.5)
        ends = {"x1": round(x(found.low), 1), "x2": round(x(found.high), 1)}
        drawn += [
            element("text", short(name), x=left - 12, y=y + 4, class_="label end"),
            element("line", y1=y, y2=y, class_=f"whisker {style}", **ends),
            element("circle", cx=round(x(found.value), 1), cy=y, r=5, class_=f"dot {style}"),
            element("text", said(found), x=_WIDTH - 175, y=y + 4, class_="label"),
        ]
    described = "; ".join(f"{name}: {said(found)}" for name, found, _ in rows)
    return figure(title, f"{title} with 95 % intervals. {described}", height, drawn)


def bars(title: str, rows: Sequence[tuple[str, float, float]], *, budget: float) -> Element:
    """Return one bar (spent) with a mark (planned) for each row, against the budget's line."""
    step, left = 34, _NAMES
    height = _TOP + step * len(rows) + _BOTTOM
    longest = max([budget, *(max(spent, planned) for _, spent, planned in rows)]) * 1.05

    def x(value: float) -> float:
        return round(left + (_WIDTH - left - 190) * value / longest, 1)

    drawn = []
    for index, (name, spent, planned) in enumerate(rows):
        y = _TOP + step * index + 6
        drawn += [
            element("text", short(name), x=left - 12, y=y + 15, class_="label end"),
            element("rect", x=left, y=y, width=round(x(longest) - left, 1), height=20, rx=3, class_="track"),
            element("rect", x=left, y=y, width=round(x(spent) - left, 1), height=20, rx=3, class_=_bar(spent, budget)),
            element("line", x1=x(planned), x2=x(planned), y1=y - 3, y2=y + 23, class_="planned"),
            element("text", f"{spent:.2f} of {planned:.2f} planned", x=_WIDTH - 175, y=y + 15, class_="label"),
        ]
    drawn += [
        element("line", x1=x(budget), x2=x(budget), y1=_TOP, y2=height - _BOTTOM, class_="budget"),
        element("text", f"budget {budget:g}", x=x(budget), y=height - _BOTTOM + 20, class_="tick middle"),
    ]
    described = "; ".join(f"{name}: {spent:.3f} of {planned:.3f} planned" for name, spent, planned in rows)
    return figure(title, f"{title}, budget {budget:g}. {described}", height, drawn)


def short(name: str) -> str:
    """Return a name as it fits beside a chart."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def said(found: Estimate) -> str:
    """Return value and interval as text."""
    return f"{found.value:.3f} ({found.low:.2f} to {found.high:.2f})"


def _bar(spent: float, budget: float) -> str:
    return "bar over" if spent > budget else "bar"


def _floor(series: Sequence[Series]) -> float:
    """Return where the axis begins: a quarter at or below the lowest value, never above one half."""
    lowest = min(point.value for line in series for point in line.points.values())
    return min(0.5, int(lowest * 4) / 4)


def _curve(line: Series, x: Callable[[float], float], y: Callable[[float], float]) -> list[Element]:
    """Return the line's band (total only), path and points."""
    numbers = sorted(line.points)
    path = " ".join(f"{x(number):.1f},{y(line.points[number].value):.1f}" for number in numbers)
    upper = [f"{x(number):.1f},{y(line.points[number].high):.1f}" for number in numbers]
    lower = [f"{x(number):.1f},{y(line.points[number].low):.1f}" for number in reversed(numbers)]
    band = [element("polygon", points=" ".join(upper + lower), class_="band")] if line.colour is None else []
    dots = [
        element(
            "circle", cx=f"{x(number):.1f}", cy=f"{y(line.points[number].value):.1f}", r=3, class_=f"dot {line.style}"
        )
        for number in numbers
    ]
    return [*band, element("polyline", points=path, class_=f"line {line.style}"), *dots]


def _axis(floor: float, top: float, y: Callable[[float], float]) -> Element:
    ticks = []
    for step in range(5):
        value = floor + (top - floor) * step / 4
        at = round(y(value), 1)
        ticks.append(element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=at, y2=at, class_="grid"))
        ticks.append(element("text", f"{value:.2f}", x=_LEFT - 8, y=at + 4, class_="tick end"))
    return element("g", ticks)


def _round_labels(rounds: int, x: Callable[[float], float], height: int) -> Element:
    every = max(1, rounds // 8)
    shown = [number for number in range(1, rounds + 1) if (number - 1) % every == 0]
    words = [f"round {number}" if number == 1 else str(number) for number in shown]
    marks = zip(shown, words, strict=True)
    return element("g", [element("text", w, x=round(x(n), 1), y=height - 14, class_="tick middle") for n, w in marks])


def _tick(x: float, top: float, bottom: float, label: str) -> Element:
    return element(
        "g",
        element("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"),
        element("text", label, x=x, y=bottom + 20, class_="tick middle"),
    )


def _spread(wanted: Sequence[float], *, low: float, high: float) -> list[float]:
    """Return label heights near the wanted ones, 15 apart, so that no two cover each other."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed = dict.fromkeys(order, 0.0)
    at = low - 15
    for index in order:
        at = max(at + 15, wanted[index])
        placed[index] = at
    limit = high
    for index in reversed(order):
        placed[index] = min(placed[index], limit)
        limit = placed[index] - 15
    return [placed[index] for index in range(len(wanted))]


def figure(title: str, description: str, height: float, drawn: Sequence[Element]) -> Element:
    """Return what is drawn as an image of the page's width, with a title and a description."""
    svg = element("svg", element("title", title), element("desc", description), drawn, role="img")
    svg.set("viewBox", f"0 0 {_WIDTH} {height:g}")
    svg.set("aria-label", title)
    return svg

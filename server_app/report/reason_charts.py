"""Charts of reasons: who agrees with whom, and which terms speak for what."""

from collections.abc import Mapping, Sequence

from fedfm.metrics.performance import Estimate
from server_app.report.charts import figure, short
from server_app.report.markup import UNKNOWN, Element, element

_WIDTH = 720
_CELL, _NAMES, _TOP = 74, 196, 30
_ROOM = 34  # pixels that a number needs


def matrix(title: str, names: Sequence[str], values: Mapping[tuple[str, str], float | None]) -> Element:
    """Return a square of cells, darker where two names are more alike; a dash where it is not known.

    Args:
        title: Heading, for those who cannot see it.
        names: Rows and columns, in this order.
        values: Both orders of each pair to a share in [0, 1], 1 is alike; None: not known.
    """
    size = min(_CELL, (_WIDTH - _NAMES) / max(1, len(names)))
    drawn = []
    for row, one in enumerate(names):
        y = _TOP + size * row
        drawn.append(element("text", short(one), x=_NAMES - 12, y=y + size / 2 + 4, class_="label end"))
        drawn.append(
            element("text", _brief(one, size), x=_NAMES + size * (row + 0.5), y=_TOP - 10, class_="tick middle")
        )
        drawn += [
            _cell(1.0 if one == other else values.get((one, other)), _NAMES + size * column, y, size)
            for column, other in enumerate(names)
        ]
    said = [f"{one} and {other} {value:.2f}" for (one, other), value in values.items() if value is not None]
    return figure(title, f"{title}. {'; '.join(said)}", _TOP + size * len(names) + 8, drawn)


def opposed(title: str, rows: Sequence[tuple[str, Estimate]], *, left: str, right: str) -> Element:
    """Return a bar for each term, to the left where it speaks for one thing and to the right where for the other.

    The line at its end is the interval.

    Args:
        title: Heading, for those who cannot see it.
        rows: Term to a signed number with its interval; not empty.
        left: What negative ones speak for.
        right: What positive ones speak for.
    """
    step, middle = 24, 430
    reach = max(abs(end) for _, found in rows for end in (found.low, found.high)) or 1.0
    height = _TOP + step * len(rows) + 8
    drawn = [
        element("text", f"◂ {left}", x=middle - 12, y=_TOP - 12, class_="tick end"),
        element("text", f"{right} ▸", x=middle + 12, y=_TOP - 12, class_="tick"),
        element("line", x1=middle, x2=middle, y1=_TOP - 4, y2=height - 6, class_="grid"),
    ]
    for index, (term, found) in enumerate(rows):
        y, value = _TOP + step * index, found.value
        at, low, high = (
            round(middle + (middle - _NAMES - 60) * end / reach, 1) for end in (value, found.low, found.high)
        )
        end = {"x": max(at, high) + 8} if value >= 0 else {"x": min(at, low) - 8}
        drawn += [
            element("text", short(term), x=_NAMES - 12, y=y + 15, class_="label end"),
            element(
                "rect",
                x=min(middle, at),
                y=y + 3,
                width=round(abs(at - middle), 1),
                height=16,
                rx=2,
                class_="bar" if value >= 0 else "bar left",
            ),
            element("line", x1=low, x2=high, y1=y + 11, y2=y + 11, class_="whisker ends"),
            element("text", f"{value:+.3f}", y=y + 15, class_="tick" if value >= 0 else "tick end", **end),
        ]
    said = "; ".join(f"{term} {found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})" for term, found in rows)
    return figure(title, f"{title}: {left} to the left, {right} to the right. {said}", height, drawn)


def _cell(value: float | None, x: float, y: float, size: float) -> Element:
    gap, inner = 2, size - 4
    shade = f"{0.06 + 0.84 * max(0.0, value):.2f}" if value is not None else "0"
    text = UNKNOWN if value is None else f"{value:.2f}"
    ink = "cell strong" if value is not None and value > 0.55 else "cell"
    shown = element("rect", x=x + gap, y=y + gap, width=inner, height=inner, rx=4, class_="heat", fill_opacity=shade)
    if size < _ROOM:
        return element("g", element("title", text), shown)
    return element(
        "g",
        shown,
        element("text", text, x=x + size / 2, y=y + size / 2 + 5, class_=f"{ink} middle"),
    )


def _brief(name: str, size: float) -> str:
    """Return the end of a name, which tells sites apart, as far as it fits."""
    letters = max(3, int(size / 7.5))
    return name if len(name) <= letters else f"…{name[1 - letters :]}"

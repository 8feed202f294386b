"""Tables of the report, and what a table says where there is no figure; trees are of ``fedfm.markup``."""

from collections.abc import Iterable

from fedfm.markup import Child as Child  # noqa: PLC0414 - the report's pages take all of it from here
from fedfm.markup import Element as Element  # noqa: PLC0414
from fedfm.markup import element as element  # noqa: PLC0414
from fedfm.markup import head as head  # noqa: PLC0414
from fedfm.markup import written as written  # noqa: PLC0414

UNKNOWN = "\N{EN DASH}"
"""What a table says where there is no figure."""


def table(caption: str, head: Iterable[str], rows: Iterable[Iterable[Child]]) -> Element:
    """Return a table whose first column names the row; cells that begin with a digit are set as figures."""
    body = [element("tr", [_cell(cell, is_first=position == 0) for position, cell in enumerate(row)]) for row in rows]
    return element(
        "div",
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", [element("th", title, scope="col") for title in head])),
            element("tbody", body),
        ),
        class_="scroll",
    )


def _cell(content: Child, *, is_first: bool) -> Element:
    if is_first:
        return element("th", content, scope="row")
    is_figure = isinstance(content, str) and content[:1].isdigit()
    return element("td", content, class_="figure") if is_figure else element("td", content)

"""HTML as trees: whatever is put in is text, and text is escaped when it is written."""

from collections.abc import Iterable
from xml.etree import ElementTree

Element = ElementTree.Element
Child = Element | str | None

UNKNOWN = "\N{EN DASH}"
"""What a table says where there is no figure."""


def element(name: str, *children: Child | Iterable[Child], **attributes: object) -> Element:
    """Return an element with its children and attributes.

    Args:
        name: Tag, for example ``td``.
        children: Elements, text, None (left out), or iterables of these.
        attributes: ``class_`` is written ``class``, ``stroke_width`` is written ``stroke-width``.
    """
    made = ElementTree.Element(name, {key.rstrip("_").replace("_", "-"): str(item) for key, item in attributes.items()})
    for child in children:
        for each in [child] if child is None or isinstance(child, Element | str) else child:
            _append(made, each)
    return made


def _append(parent: Element, child: Child) -> None:
    if isinstance(child, Element):
        parent.append(child)
    elif child is not None and len(parent):
        parent[-1].tail = (parent[-1].tail or "") + child
    elif child is not None:
        parent.text = (parent.text or "") + child


def written(root: Element) -> str:
    """Return the document as HTML; every text and attribute in it is escaped."""
    return "<!doctype html>\n" + ElementTree.tostring(root, encoding="unicode", method="html") + "\n"


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

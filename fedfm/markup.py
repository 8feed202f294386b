"""HTML as trees: whatever is put in is text, and text is escaped when it is written."""

import base64
import hashlib
from collections.abc import Iterable
from xml.etree import ElementTree

Element = ElementTree.Element
Child = Element | str | None


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


def head(title: str, css: str) -> Element:
    """Return the head of a page that is whole by itself: no script runs in it, and nothing is loaded but this style.

    A style attribute has no effect under this policy; what differs has a class.
    """
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", css),
    )


def written(root: Element) -> str:
    """Return the document as HTML; every text and attribute in it is escaped."""
    return "<!doctype html>\n" + ElementTree.tostring(root, encoding="unicode", method="html") + "\n"

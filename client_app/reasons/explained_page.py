"""The reasons for single documents as one page, whole by itself: escaped, without a script, for its owner alone."""

from collections.abc import Sequence

from client_app.reasons.explained_words import (
    CAUTION,
    CHANGES,
    KEEP,
    LEVELS,
    answer,
    figures,
    heading,
    levels,
    method,
    strongest,
    value,
    verdict,
)
from client_app.reasons.explaining import Document, Shown
from client_app.reasons.readable import pieces, readable, unread
from fedfm.markup import Child, Element, element, head, written
from fedfm.page_style import BASE


def _shades(name: str, colour: str) -> str:
    """Return a class for each strength; the page's own colour shows through, so that both themes can be read."""
    return "".join(
        f".{name}{level}{{background:rgba({colour},{0.08 + 0.72 * level / LEVELS:.2f})}}"
        for level in range(1, LEVELS + 1)
    )


CSS = f"""{BASE}main{{max-width:880px}}
h1{{font-size:1.45rem;margin:0 0 8px}}
h2{{font-size:1.05rem;margin:0 0 4px}}
p{{margin:.4em 0}}
section{{padding:20px 24px}}
.keep{{background:var(--bad-soft);border-left:8px solid var(--bad);font-weight:600}}
.text{{white-space:pre-wrap;overflow-wrap:anywhere;font-size:1.06rem;line-height:1.9;margin:14px 0;padding:12px 16px;
border-left:3px solid var(--line)}}
.text span{{border-radius:4px;padding:2px 1px}}
.text [class^=a]{{text-decoration:underline dotted;text-underline-offset:3px}}
.unread{{color:var(--soft);opacity:.6}}
.verdict{{font-weight:600}}
.good{{color:var(--good)}}
.bad{{color:var(--bad)}}
table{{border-collapse:collapse;width:100%;font-size:.92rem;margin-top:12px}}
th,td{{text-align:left;padding:6px 12px 6px 0;border-bottom:1px solid var(--line);vertical-align:top}}
th{{font-weight:400;color:var(--soft);width:46%}}
td{{font-variant-numeric:tabular-nums}}
.columns th{{width:auto;color:var(--ink);font-weight:600;overflow-wrap:anywhere}}
.columns .number{{text-align:right;white-space:nowrap}}
svg{{display:block;width:240px;height:18px}}
.axis{{stroke:var(--soft)}}
.for{{fill:rgb(46,160,95)}} .against{{fill:rgb(222,80,70)}}
{_shades("f", "46,160,95")}
{_shades("a", "222,80,70")}
@media print{{section{{break-inside:avoid}}
body{{background:#fff;-webkit-print-color-adjust:exact;print-color-adjust:exact}}}}
"""


def page(site: str, shown: Shown, documents: Sequence[Document]) -> str:
    """Return the whole page."""
    sample: list[Child] = [
        element("span", " speaks for the predicted class ", class_=f"f{LEVELS}"),
        " ",
        element("span", " speaks against it ", class_=f"a{LEVELS}"),
        " ",
        element("span", " not read by the model ", class_="unread"),
    ]
    body = element(
        "main",
        element("h1", f"Reasons for single documents at {site}"),
        element("section", element("p", KEEP), class_="keep"),
        element(
            "section",
            element("p", method(shown)),
            element("p", sample, class_="text"),
            element("p", CAUTION, class_="soft"),
        ),
        [_section(document) for document in documents],
    )
    return written(element("html", head(f"fedfm: reasons at {site}", CSS), element("body", body), lang="en"))


def _section(document: Document) -> Element:
    text = document.example.text
    rest = 0 if text is None else unread(text, document.names)
    words = zip(("Most for", "Most against"), strongest(document), strict=True)
    return element(
        "section",
        element("h2", heading(document)),
        element("p", answer(document)),
        _columns(document) if text is None else element("p", _parts(document, text), class_="text"),
        element("p", f"The model does not read the last {rest} characters.", class_="soft") if rest else None,
        element("p", verdict(document), class_="verdict good" if document.is_faithful else "verdict bad"),
        [element("p", f"{name}: {', '.join(found)}", class_="soft") for name, found in words if found],
        element(
            "table",
            [
                element(
                    "tr", element("th", name, scope="row"), element("td", told, class_="bad" if CHANGES in told else "")
                )
                for name, told in figures(document)
            ],
        ),
    )


def _parts(document: Document, text: str) -> list[Child]:
    strengths, last, made, seen = levels(document.credits).tolist(), len(document.names) - 1, list[Child](), -1
    for part, place in pieces(text, document.names):
        told = readable(part)
        if place is None:
            is_unread = seen == last and bool(part.strip())
            made.append(element("span", told, class_="unread") if is_unread else told)
            continue
        seen, level = place, strengths[place]
        kind = {"class_": f"{'f' if level > 0 else 'a'}{abs(level)}"} if level else {}
        made.append(element("span", told, title=f"{document.credits[place]:+.3f}", **kind))
    return made


def _columns(document: Document) -> Element:
    strengths = levels(document.credits).tolist()
    rows = [
        element(
            "tr",
            element("th", readable(name), scope="row"),
            element("td", value(document, place), class_="number"),
            element("td", f"{document.credits[place]:+.3f}", class_="number"),
            element("td", _bar(strength)),
        )
        for place, (name, strength) in enumerate(zip(document.names, strengths, strict=True))
    ]
    return element("table", rows, class_="columns")


def _bar(level: int) -> Element:
    """Return a bar from the middle: to the right for the predicted class, to the left against it."""
    size = 110 * abs(level) / LEVELS
    start = 120 if level > 0 else 120 - size
    kind = "for" if level > 0 else "against"
    return element(
        "svg",
        element("line", x1=120, x2=120, y1=0, y2=18, class_="axis"),
        element("rect", x=f"{start:.1f}", y=3, width=f"{size:.1f}", height=12, rx=2, class_=kind) if level else None,
        viewBox="0 0 240 18",
        role="img",
        aria_label=f"{level} of {LEVELS}",
    )

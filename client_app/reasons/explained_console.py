"""The reasons for single documents, coloured on a terminal."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from client_app.reasons.explained_words import (
    CAUTION,
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

_FOR, _AGAINST, _WEAKEST = (60, 180, 100), (235, 90, 80), (235, 238, 240)
_BAR = 24  # cells of the longest bar


def renderables(shown: Shown, documents: Sequence[Document]) -> Iterator[RenderableType]:
    """Yield what is printed: the method, each document, and the caution."""
    yield Text(method(shown))
    yield Text.assemble(
        "Colours: ",
        ("speaks for the predicted class", _style(LEVELS)),
        ", ",
        ("speaks against it", _style(-LEVELS)),
        "; grey: not read by the model.",
    )
    for document in documents:
        yield Text("\n" + heading(document), style="bold")
        yield Text(answer(document))
        text = document.example.text
        yield _columns(document) if text is None else Padding(_coloured(document, text), (1, 0, 1, 2))
        yield Text(verdict(document), style="" if document.is_faithful else "bold yellow")
        yield from _strongest(document)
        yield _figures(document)
    yield Text(CAUTION)
    yield Text(KEEP, style="bold")


def _coloured(document: Document, text: str) -> Text:
    strengths, made, last = levels(document.credits), Text(), len(document.names) - 1
    seen = -1
    for part, place in pieces(text, document.names):
        seen = seen if place is None else place
        style = "dim" if place is None and seen == last else "" if place is None else _style(int(strengths[place]))
        made.append(readable(part), style=style)
    rest = unread(text, document.names)
    return made.append(f"\n[the model does not read the last {rest} characters]", style="dim") if rest else made


def _columns(document: Document) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("column", "value", "credit", ""):
        table.add_column(name, justify="right" if name in ("value", "credit") else "left")
    strengths = levels(document.credits).tolist()
    for place, (name, strength) in enumerate(zip(document.names, strengths, strict=True)):
        bar = Text("\N{FULL BLOCK}" * max(1, abs(strength) * _BAR // LEVELS) if strength else "", style=_ink(strength))
        table.add_row(Text(readable(name)), value(document, place), f"{document.credits[place]:+.3f}", bar)
    return table


def _figures(document: Document) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
    for name, told in figures(document):
        table.add_row(Text(name), Text(told))
    return table


def _strongest(document: Document) -> Iterator[Text]:
    for name, words in zip(("for", "against"), strongest(document), strict=True):
        if words:
            yield Text(f"  most {name}: {', '.join(words)}")


def _style(level: int) -> str:
    """Return black on a colour: the stronger, the fuller; underlined, too, where it speaks against; else nothing."""
    return f"black on rgb({_colour(level)}){' underline' if level < 0 else ''}" if level else ""


def _ink(level: int) -> str:
    return f"rgb({_colour(LEVELS if level > 0 else -LEVELS)})"


def _colour(level: int) -> str:
    full, part = _FOR if level > 0 else _AGAINST, abs(level) / LEVELS
    return ",".join(str(round(weak + (strong - weak) * part)) for weak, strong in zip(_WEAKEST, full, strict=True))

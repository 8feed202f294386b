"""What is said of a document's reasons, on the screen and on the page alike."""

import numpy as np
from numpy.typing import NDArray

from client_app.reasons.explaining import RANDOM_ORDERS, Document, Shown
from client_app.reasons.readable import readable, readable_line
from fedfm.explanations import COMPLETENESS_MOST

LEVELS = 9
"""Strengths of a colour."""

CAUTION = (
    "A colouring that looks plausible need not be a faithful one. Whether the answer hangs on the coloured words, the "
    "figures beside it say: believe them rather than the eye. Text with words taken out is text that the model was not "
    "trained on, so they are a check, not a proof. All of it is about the model, and nothing about causes of disease."
)
CHANGES = "CHANGES"
KEEP = (
    "Nothing was sent, and the ledger was not touched: what does not leave costs no epsilon. This shows single "
    "patients without any noise: do not show it outside the hospital."
)
_FAITHFUL = f"The answer hangs on the credited words: more than on words in each of {RANDOM_ORDERS} random orders."
_UNFAITHFUL = (
    f"Do not rely on this colouring: the answer hangs on the credited words no more than on words in some of "
    f"{RANDOM_ORDERS} random orders."
)
_BASELINES = {"pad": "the embedding of padding", "mask": "the embedding of the mask", "mean": "the mean of all words"}
_OF_SPLIT = {
    "train": "a training patient: the model may have learned this very document",
    "audit": "an audit patient",
    "test": "a test patient",
}


def levels(credits_: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return int64[W] in [-LEVELS, LEVELS]: each credit in parts of the document's largest, by size."""
    largest = float(np.abs(credits_).max(initial=0.0))
    if largest == 0:
        return np.zeros(len(credits_), dtype=np.int64)
    return np.rint(credits_ / largest * LEVELS).astype(np.int64)


def heading(document: Document) -> str:
    """Say which document it is."""
    return f"Row {document.example.row + 1} of the table, {_OF_SPLIT[document.split]}"


def answer(document: Document) -> str:
    """Say what the model answers, and what the table says."""
    chance = "" if document.probability is None else f", probability {document.probability:.3f}"
    right = "as the table says" if document.label == document.predicted else f"the table says {document.label}"
    return readable(f"Predicted {document.predicted}{chance}; {right}.")


def verdict(document: Document) -> str:
    """Say in one sentence whether the colours are to be believed."""
    if document.probability is None:
        return "The model gives no finite answer here: it has no reasons to show."
    if not document.names:
        return "The model reads no word of this document: there is nothing to colour."
    if not document.credits.any():
        return "No word has any credit: the model answers so whatever this document says."
    if len(document.credits) > 1 and np.ptp(document.credits) == 0:
        return "All have the same credit: the method tells none of them from another."
    return _FAITHFUL if document.is_faithful else _UNFAITHFUL


def figures(document: Document) -> list[tuple[str, str]]:
    """Return what is measured of this document, and its value; nothing where the model gives no finite answer."""
    if document.probability is None:
        return []
    low, middle, high = document.random[0], document.random.mean(), document.random[-1]
    error = document.completeness_error
    rows = [
        ("drop without the most credited words", f"{document.comprehensiveness:+.3f}"),
        ("drop without words in random order", f"{middle:+.3f} on average ({low:+.3f} to {high:+.3f})"),
        ("drop with the most credited words alone", f"{document.sufficiency:+.3f}"),
        ("completeness error", "the method's credits need not add up" if error is None else _error(error)),
    ]
    rows += [(f"exchanging {name}", _swap(document, name)) for name in document.swaps]
    rows += [(f"credit on {name}", _shortcut(*both)) for name, both in document.shortcuts.items()]
    return [(readable(name), told) for name, told in rows]


def strongest(document: Document, count: int = 5) -> tuple[list[str], list[str]]:
    """Return the words that speak most for the predicted class and most against it, with their credits."""
    order = np.argsort(-document.credits, kind="stable").tolist()
    found = [(readable(document.names[place]), float(document.credits[place])) for place in order]
    for_it = [f"{name} {credit:+.3f}" for name, credit in found[:count] if credit > 0]
    against = [f"{name} {credit:+.3f}" for name, credit in found[::-1][:count] if credit < 0]
    return for_it, against


def method(shown: Shown) -> str:
    """Say which model it is, and how words are credited."""
    settings, name = shown.settings, shown.settings.attribution
    told = f"The model: {shown.whose}. Credits: {name.replace('_', ' ')}"
    if name == "integrated_gradients":
        of = "the middle of its range, or the mean"
        told += f", {settings.steps} steps from "
        told += of if shown.model.recipe.task.inputs == "columns" else _BASELINES[settings.baseline]
    elif name == "expected_gradients":
        told += f", {settings.steps} draws from what is public"
    elif name in ("attention_rollout", "gradient_norm"):
        told += " (for comparison only: it hardly depends on what the model was trained to decide)"
    return readable_line(told + ".")


def value(document: Document, place: int) -> str:
    """Return a column's value as the table has it."""
    found = (document.example.columns or ())[place]
    return "missing" if np.isnan(found) else f"{found:g}"


def _error(error: float) -> str:
    if not np.isfinite(error):
        return "infinite: the answer is that of the baseline, and yet there are credits"
    hint = "" if error <= COMPLETENESS_MOST else ": credits do not add up, so do not trust their sizes"
    return f"{error:.3f} of what they explain{hint}"


def _swap(document: Document, name: str) -> str:
    found = document.swaps[name]
    if found is None:
        return "has nothing to exchange here"
    return f"moves the probability by {found.shift:.3f}; the answer {CHANGES if found.flips else 'stays'}"


def _shortcut(mass: float, share: float) -> str:
    return f"{mass:.0%} of all credit, on {share:.0%} of the words" if share else "has none of its words here"

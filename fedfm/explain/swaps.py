"""Whether the answer changes when words are exchanged that must not decide: two passes, and no credits at all."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fedfm.config.study import Column, Task
from fedfm.examples import Example
from fedfm.explain.attribution import refuse_hooks
from fedfm.explain.words import WORD, matches, normal
from fedfm.model.classifier import Classifier

Figures = NDArray[np.float64]

_ENDS, _PAUSES = ".!?", ",;:|"


def swapped(example: Example, swaps: Mapping[str, str], task: Task) -> Example | None:
    """Return the example with each phrase exchanged for its alternative, in both directions at once; None if equal.

    Whole words, in any case; what stands in has the case of what it stands for: as listed, capitals, a capital
    first letter, or none. Where two phrases have one alternative, that one becomes the first of them.

    A phrase whose alternative is empty is taken out wherever it stands, with a space or a separator beside it. Where
    it does not stand it is put in as a sentence of its own, at the front: a model reads the beginning of every text,
    of a long one not the end.

    A column is mirrored in its range, low + high - value; a missing value stays.

    Args:
        example: Of a text, or of columns.
        swaps: Phrase to its alternative.
        task: Says which of the two, and the ranges.
    """
    if task.inputs == "columns":
        return _mirrored(example, {normal(name) for name in (*swaps, *swaps.values())}, task.columns)
    if example.text is None:
        return None
    text = _exchanged(example.text, _alternatives(swaps))
    return None if text == example.text else dataclasses.replace(example, text=text)


@torch.no_grad()
def swap_effects(model: Classifier, examples: Sequence[Example], swaps: Mapping[str, str]) -> tuple[Figures, Figures]:
    """Return how the answer changes when phrases are exchanged; 0 where an example has nothing to exchange.

    Each goes through the model by itself, for the reason that ``fedfm.explain.documents.explained`` gives.

    Args:
        model: Without the hooks of a private step.
        examples: N of them.
        swaps: Phrase to its alternative, as ``swapped`` takes it.

    Returns:
        float64[N] in [0, 1], by how much the probability of the predicted class changes, and float64[N], 1 where
        another class is predicted. Both 0 where the model gives no finite answer.

    Raises:
        ModelError: Hooks of a private step are attached.
    """
    refuse_hooks(model)
    pairs = [(i, other) for i, example in enumerate(examples) if (other := swapped(example, swaps, model.recipe.task))]
    shift, flip = np.zeros(len(examples)), np.zeros(len(examples))
    if not pairs:
        return shift, flip
    chances = _chances(model, [examples[i] for i, _ in pairs] + [other for _, other in pairs])
    before, after = np.split(chances, 2)
    rows, places = np.arange(len(pairs)), [i for i, _ in pairs]
    told = np.isfinite(before).all(1) & np.isfinite(after).all(1)
    target = before.argmax(1)
    shift[places] = np.where(told, np.abs(before[rows, target] - after[rows, target]), 0.0)
    flip[places] = told & (after.argmax(1) != target)
    return shift, flip


def _chances(model: Classifier, examples: Sequence[Example]) -> Figures:
    """Return float64[N, C], the probability of each class."""
    logits = torch.cat([model(model.encode([example])) for example in examples])
    chances: Figures = logits.double().softmax(-1).cpu().numpy()
    return chances


def _mirrored(example: Example, named: set[tuple[str, ...]], columns: Sequence[Column]) -> Example | None:
    if example.columns is None:
        return None
    values = tuple(
        column.low + column.high - value if normal(column.name) in named else value
        for column, value in zip(columns, example.columns, strict=True)
    )
    is_equal = np.array_equal(values, example.columns, equal_nan=True)
    return None if is_equal else dataclasses.replace(example, columns=values)


def _alternatives(swaps: Mapping[str, str]) -> dict[str, str]:
    """Return phrase to alternative for both directions, the listed one before its reverse."""
    found: dict[tuple[str, ...], tuple[str, str]] = {}
    for phrase, other in (*swaps.items(), *((other, phrase) for phrase, other in swaps.items())):
        if words := normal(phrase):
            found.setdefault(words, (phrase, other if normal(other) else ""))
    return dict(found.values())


def _exchanged(text: str, alternatives: Mapping[str, str]) -> str:
    spans = [found.span() for found in WORD.finditer(text)]
    words, phrases = [text[start:end] for start, end in spans], list(alternatives)
    made, end = "", 0
    for which, places in matches(words, phrases):
        start, before = spans[places[0]][0], end
        end = spans[places[-1]][1]
        made = _beside(made, text[before:start])
        other = alternatives[phrases[which]]
        if other:
            made = _beside(made, _in_case_of(text[start:end], phrases[which], other))
        else:
            made, end = _taken_out(made, text, end)
    made = _beside(made, text[end:])
    absent = [phrase for phrase, other in alternatives.items() if not other and not matches(words, [phrase])]
    return "".join(phrase + (" " if phrase[-1] in _ENDS else ". ") for phrase in absent) + made


def _beside(left: str, right: str) -> str:
    """Return the two together; a space parts letters that did not stand together before."""
    # Only a phrase that begins or ends with punctuation, as [tag] does, may have letters right beside it.
    meet = left[-1:] + right[:1]
    return f"{left} {right}" if len(meet) == 2 and WORD.findall(meet) == [meet] else left + right


def _taken_out(left: str, text: str, end: int) -> tuple[str, int]:
    """Return what stays of the text before a phrase that is taken out, and where the text after it goes on."""
    kept, rest = left.rstrip(), text[end:].lstrip(" ")
    if kept[-1:] in _PAUSES and rest[:1] in _ENDS and kept:  # "a, tag." and "a, tag": the comma goes
        return kept[:-1], end
    if (not kept or kept[-1] in _ENDS + _PAUSES) and rest[:1] in _ENDS + _PAUSES and rest:  # "tag. a" and "a, tag, b"
        end = len(text) - len(rest) + 1
        return left, end + text[end : end + 1].isspace()
    if text[end : end + 1].isspace():
        return left, end + 1
    return left[: len(left) - left[-1:].isspace()], end


def _in_case_of(found: str, listed: str, other: str) -> str:
    """Return the alternative in the case of what was found."""
    letters = [character for character in found if character.isalpha()]
    if found == listed or not letters:
        return other
    if len(letters) > 1 and found.isupper():
        return other.upper()
    if found.islower():
        return other.lower()
    first = next((i for i, character in enumerate(other) if character.isalpha()), None)
    if first is None or not letters[0].isupper():
        return other
    return other[:first] + other[first].upper() + other[first + 1 :]

"""Whether the outcome stands in what a model reads: then its figures are too good, and worth nothing at the bedside."""

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from client_app.data.labels import label_indices
from client_app.data.named import columns_read
from client_app.data.tables import canonical, column
from fedfm.config.site import Data
from fedfm.config.study import Task
from fedfm.findings import Finding

_TOO_GOOD = 0.98
"""Area under the ROC curve of one column alone; of clinical measurements none comes near."""

_TOO_TELLING = 0.9
"""The same of the outcome's own word in the note."""

_SHORTEST = 4  # letters of a word that is looked for; shorter ones stand in other words


def leaks(table: pd.DataFrame, data: Data, task: Task) -> Iterator[Finding]:
    """Yield whether a column alone, or the outcome's own word in a note, gives the outcome away."""
    labels = np.array(label_indices(table, data, task))
    told = [name for _, name in columns_read(data) if _is_telling(table, name, labels)] if data.loader != "text" else []
    if told:
        what = f"almost gives the outcome away by itself (AUROC above {_TOO_GOOD:g}): {', '.join(told)}"
        fix = "see whether it was written after the outcome; if so, leave it out"
        yield Finding("data", "leakage", "warn", what, "SITE-W019", fix)
    elif data.loader == "text" and _is_named(table, data, task, labels):
        what = "the words that name the outcome stand in the notes, and almost give it away"
        fix = "cut the notes where the outcome was not yet known"
        yield Finding("data", "leakage", "warn", what, "SITE-W019", fix)
    else:
        yield Finding("data", "leakage", "pass", "no column that is read, and no word of the outcome, gives it away")


def area(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve, ties counted half; 0.5 where there is one class alone.

    Source: Mann and Whitney 1947.
    """
    ranks = pd.Series(scores).rank().to_numpy()
    many, others = int(positive.sum()), int((~positive).sum())
    if not many or not others:
        return 0.5
    return float((ranks[positive].sum() - many * (many + 1) / 2) / (many * others))


def _is_telling(table: pd.DataFrame, name: str, labels: NDArray[np.int64]) -> bool:
    """Whether a column alone tells some outcome from the others: as a number, each value alone, or by being missing."""
    cells = column(table, name, setting="data").map(canonical, na_action="ignore")
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    common = cells.value_counts().index[:20]
    scores: list[NDArray[np.float64]] = [np.asarray(cells.isna(), dtype=np.float64)]
    scores += [np.asarray(cells == value, dtype=np.float64) for value in common]
    if np.isfinite(numbers).any():
        scores.append(np.where(np.isfinite(numbers), numbers, np.nanmedian(numbers)))
    return any(_is_far(score, labels, _TOO_GOOD) for score in scores)


def _is_named(table: pd.DataFrame, data: Data, task: Task, labels: NDArray[np.int64]) -> bool:
    """Whether a label, or the file's own word for it, stands in the notes of those who have it and of few others."""
    notes = column(table, data.text, setting="data.text").fillna("").str.lower()
    words = {word.lower() for word in (*data.label_map, *task.labels) if len(word) >= _SHORTEST}
    found = (notes.str.contains(rf"\b{re.escape(word)}\b", regex=True) for word in words)
    return any(_is_far(np.asarray(each, dtype=np.float64), labels, _TOO_TELLING) for each in found)


def _is_far(scores: NDArray[np.float64], labels: NDArray[np.int64], bound: float) -> bool:
    areas = (area(scores, labels == label) for label in np.unique(labels))
    return any(max(found, 1 - found) > bound for found in areas)

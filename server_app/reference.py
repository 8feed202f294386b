"""The public reference set at the coordinator: a table of examples that are nobody's secret.

A CSV or Parquet file with a column ``label``, whose cells are names of the study's labels, and a column ``text``, or
one of each of the study's columns. What is wrong may be said with row and value: it holds no patient of a hospital.
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fedfm.config.problems import did_you_mean, shown
from fedfm.config.study import Task
from fedfm.errors import ConfigError
from fedfm.examples import Example

_ENDINGS = (".csv", ".csv.gz", ".parquet")


def read_reference(path: Path, task: Task, *, setting: str) -> list[Example]:
    """Return the examples of a reference set, in the order of its rows.

    Args:
        path: A ``.csv``, ``.csv.gz`` (UTF-8, commas, names in the first line) or ``.parquet`` file.
        task: Names labels and columns.
        setting: Path of the setting that names the file, for messages.

    Raises:
        ConfigError: The file is no readable table with a row (STUDY-E082), lacks a column (STUDY-E083), or has a cell
            that cannot be used (STUDY-E084).
    """
    where = f"{setting} {path}"
    table = _read(path, where)
    inputs = ["text"] if task.inputs == "text" else [column.name for column in task.columns]
    missing = [name for name in (*inputs, "label") if name not in table.columns]
    if missing:
        names = [str(name) for name in table.columns]
        raise ConfigError(
            "STUDY-E083",
            f"the reference set has no column {missing[0]!a}",
            where=where,
            found=", ".join(names)[:200],
            allowed=", ".join([*inputs, "label"])[:200],
            fix=did_you_mean(missing[0], names) or "add it, or name it in the first line",
        )
    labels = [_label(cell, row, where, task.labels) for row, cell in enumerate(table["label"], start=1)]
    if task.inputs == "text":
        texts = [_text(cell, row, where) for row, cell in enumerate(table["text"], start=1)]
        return [Example("reference", label, text=text) for label, text in zip(labels, texts, strict=True)]
    rows = zip(*(table[name] for name in inputs), strict=True)
    numbers = [tuple(_number(cell, row, where) for cell in cells) for row, cells in enumerate(rows, start=1)]
    return [Example("reference", label, columns=values) for label, values in zip(labels, numbers, strict=True)]


def _read(path: Path, where: str) -> pd.DataFrame:
    """Read every cell as stripped text; a missing one is empty."""
    try:
        if not path.name.lower().endswith(_ENDINGS):
            raise _unreadable(where, path.suffix or "no ending")
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # lines longer than the first would be cut
            table = (
                pd.read_parquet(path, dtype_backend="numpy_nullable")
                if path.name.lower().endswith(".parquet")
                else pd.read_csv(path, dtype="str", keep_default_na=False, index_col=False, encoding="utf-8-sig")
            )
    except (OSError, ValueError, EOFError, pd.errors.ParserWarning) as problem:
        raise _unreadable(where, type(problem).__name__) from problem
    if table.empty:
        raise _unreadable(where, "no rows")
    stripped: pd.DataFrame = table.astype("str").fillna("").apply(lambda cells: cells.str.strip())
    return stripped


def _unreadable(where: str, found: str) -> ConfigError:
    return ConfigError(
        "STUDY-E082",
        "the reference set is no table that can be read",
        where=where,
        found=found,
        allowed=f"a file with a row or more: {', '.join(_ENDINGS)}",
        fix="write the path of the file on the coordinator's machine, from its root on",
    )


def _label(cell: str, row: int, where: str, labels: Sequence[str]) -> int:
    if cell not in labels:
        raise _cell(where, row, "is none of the study's labels", found=shown(cell), allowed=", ".join(labels))
    return labels.index(cell)


def _text(cell: str, row: int, where: str) -> str:
    if not cell:
        raise _cell(where, row, "has no text", found="nothing", allowed="a text")
    return cell


def _number(cell: str, row: int, where: str) -> float:
    try:
        value = float(cell) if cell else math.nan
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise _cell(where, row, "holds no number", found=shown(cell), allowed="a number, or an empty cell")
    return value


def _cell(where: str, row: int, what: str, *, found: str, allowed: str) -> ConfigError:
    return ConfigError(
        "STUDY-E084", f"row {row} of the reference set {what}", where=where, found=found, allowed=allowed
    )

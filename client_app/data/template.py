"""Loader ``template``: a row of columns, written as a sentence by the site's own template."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

import pandas as pd

from client_app.data.tables import Content, canonical, column
from fedfm.config.site import Data
from fedfm.config.study import Task
from fedfm.errors import ConfigError, DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clause:
    """A part of the template between two ``;``.

    Attributes:
        pieces: Constant text, then the column that follows it ("" after the last text), in turn.
    """

    pieces: tuple[tuple[str, str], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns it needs."""
        return tuple(name for _, name in self.pieces if name)


def sentences(table: pd.DataFrame, data: Data, task: Task) -> list[Content]:
    """Return each row as text: clauses joined by ``; ``, those with a missing value left out.

    Numbers are written in their shortest form (``63`` for ``63.0``), or as the word that
    ``data.words`` gives; an empty word leaves the clause out.

    Raises:
        ConfigError: The template is absent or malformed (SITE-E002, SITE-E028).
        DataError: A column is absent (SITE-E014), or has values without a word (SITE-E015).
    """
    clauses = parse(data.template)
    names = {name for clause in clauses for name in clause.columns}
    cells = {name: _words(table, data, name) for name in sorted(names)}
    return [_sentence(clauses, cells, row) for row in range(len(table))]


def parse(template: str) -> tuple[Clause, ...]:
    """Return the clauses of a template such as ``'{age}-year-old {sex}; blood pressure {bp} mmHg'``.

    Raises:
        ConfigError: It is empty (SITE-E002), or a brace is unpaired or holds more than a name (SITE-E028).
    """
    if not template.strip():
        raise ConfigError("SITE-E002", "loader = template needs a template", where="site.yaml data.template")
    return tuple(_clause(part.strip()) for part in template.split(";") if part.strip())


def _clause(part: str) -> Clause:
    wrong = ConfigError(
        "SITE-E028",
        f"the clause '{part}' cannot be read",
        where="site.yaml data.template",
        allowed="text with column names in braces: {age}",
    )
    try:
        parsed = list(Formatter().parse(part))
    except ValueError:
        raise wrong from None
    for _, name, form, conversion in parsed:
        if name == "" or form or conversion:
            raise wrong
    return Clause(tuple((text, name or "") for text, name, _, _ in parsed))


def _words(table: pd.DataFrame, data: Data, name: str) -> list[str | None]:
    """Return how each row's value of one column is written; None where the clause is left out."""
    cells = column(table, name, setting="data.template").map(canonical, na_action="ignore")
    texts = [None if missing else str(cell) for cell, missing in zip(cells, cells.isna(), strict=True)]
    words = data.words.get(name)
    if words is None:
        return texts
    where = f"site.yaml data.words (column '{name}')"
    if not isinstance(words, Mapping):
        raise ConfigError("SITE-E003", "words is no map", where=where, allowed="value: word, one line each")
    known = {canonical(str(value)): str(word) for value, word in words.items()}
    without = sum(text is not None and text not in known for text in texts)
    if without:
        log.error("data.words.%s: the value of %d of %d rows has no word", name, without, len(texts))
        fix = "add the missing values; the trainer's log says in how many rows"
        raise DataError("SITE-E015", f"some rows of column '{name}' have a value without a word", where=where, fix=fix)
    return [None if text is None else known[text] or None for text in texts]


def _sentence(clauses: tuple[Clause, ...], cells: Mapping[str, list[str | None]], row: int) -> str | None:
    kept = [
        "".join(text + (cells[name][row] or "" if name else "") for text, name in clause.pieces)
        for clause in clauses
        if all(cells[name][row] is not None for name in clause.columns)
    ]
    return "; ".join(kept) or None

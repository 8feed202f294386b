"""Loader ``columns``: plain numbers for a small tabular model.

A study has only the columns that the site lists, and all that are listed are read whatever the
study asks for: no refusal depends on what the study chose and on the table at once.
"""

import logging

import numpy as np
import pandas as pd

from client_app.data.tables import Content, column
from fedfm.config.site import Data
from fedfm.config.study import Task
from fedfm.errors import DataError

log = logging.getLogger(__name__)


def numbers(table: pd.DataFrame, data: Data, task: Task) -> list[Content]:
    """Return float[F] of each row in the order of ``task.columns``; NaN where a cell is missing.

    Values are raw: the model scales them (``fedfm.model.tabular``).

    Raises:
        DataError: The site does not list a column (SITE-E023), or one that it lists is absent
            (SITE-E014) or holds something that is no finite number (SITE-E024).
    """
    check_columns(data, task)
    values = {wanted: _floats(table, name, wanted) for wanted, name in data.columns.items()}
    return [tuple(map(float, row)) for row in np.stack([values[wanted.name] for wanted in task.columns], axis=1)]


def check_columns(data: Data, task: Task) -> None:
    """Return if the site lists every column of the study; looks at the two files alone, never at the table.

    Raises:
        DataError: A column is not listed (SITE-E023).
    """
    for wanted in task.columns:
        if wanted.name not in data.columns:
            raise DataError(
                "SITE-E023",
                f"the site does not offer column '{wanted.name}'",
                where="site.yaml data.columns",
                fix="leave it out of task.columns, or let the hospital list it",
            )


def _floats(table: pd.DataFrame, name: str, wanted: str) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    setting = f"data.columns.{wanted}"
    cells = column(table, name, setting=setting)
    values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = int((cells.notna().to_numpy() & ~np.isfinite(values)).sum())
    if wrong:
        log.error("%s: %d of %d rows hold no number", setting, wrong, len(values))
        raise DataError(
            "SITE-E024",
            f"some rows of column '{name}' hold something that is no number",
            where=f"site.yaml {setting}",
            allowed="numbers with a decimal point, or an empty cell",
            fix="the trainer's log says how many rows",
        )
    return values

"""Loader ``columns``: plain numbers for a small tabular model."""

import numpy as np
import pandas as pd

from client_app.data.tables import Content, column, how_many
from fedfm.config.site import Data
from fedfm.config.study import Task
from fedfm.errors import DataError


def numbers(table: pd.DataFrame, data: Data, task: Task) -> list[Content]:
    """Return float[F] of each row in the order of ``task.columns``; NaN where a cell is missing.

    Values are raw: the study's reference ranges scale them, never this site's own statistics.

    Raises:
        DataError: A column is absent (SITE-E014) or holds something that is no finite number (SITE-E024).
    """
    values = [_floats(table, data.columns.get(wanted.name, wanted.name), wanted.name) for wanted in task.columns]
    return [tuple(map(float, row)) for row in np.stack(values, axis=1)]


def _floats(table: pd.DataFrame, name: str, wanted: str) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    setting = f"data.columns.{wanted}"
    cells = column(table, name, setting=setting)
    values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = int((cells.notna().to_numpy() & ~np.isfinite(values)).sum())
    if wrong:
        raise DataError(
            "SITE-E024",
            f"column '{name}' holds something that is no number",
            where=f"site.yaml {setting}",
            found=how_many(wrong, "rows"),
            allowed="numbers with a decimal point, or an empty cell",
        )
    return values

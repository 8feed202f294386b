"""Loader ``text``: a column already holds the note."""

import pandas as pd

from client_app.data.tables import Content, column
from fedfm.config.site import Data
from fedfm.config.study import Task
from fedfm.errors import ConfigError


def notes(table: pd.DataFrame, data: Data, task: Task) -> list[Content]:
    """Return the note of each row; None where there is none.

    Raises:
        ConfigError: ``data.text`` is not set (SITE-E002).
        DataError: There is no such column (SITE-E014).
    """
    if not data.text:
        raise ConfigError("SITE-E002", "loader = text needs the column of the note", where="site.yaml data.text")
    cells = column(table, data.text, setting="data.text")
    return [None if missing else str(note) for note, missing in zip(cells, cells.isna(), strict=True)]

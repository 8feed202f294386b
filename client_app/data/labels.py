"""From the outcome column to the study's labels."""

import pandas as pd

from client_app.data.tables import canonical, column, how_many
from fedfm.config.site import Data
from fedfm.config.study import Task
from fedfm.errors import ConfigError, DataError


def label_indices(table: pd.DataFrame, data: Data, task: Task) -> list[int]:
    """Return the index into ``task.labels`` of each row.

    Raises:
        ConfigError: ``label_map`` leads to a label that the study does not know (SITE-E022).
        DataError: The column is absent (SITE-E014), some rows have an outcome that leads to no
            label (SITE-E015; counted, never shown), or only one class is there (SITE-E016).
    """
    known = _known(data, task)
    cells = column(table, data.label, setting="data.label").map(canonical, na_action="ignore")
    indices = [known.get(str(cell), -1) for cell in cells]
    unmapped = indices.count(-1)
    if unmapped:
        raise DataError(
            "SITE-E015",
            "the outcome of some rows leads to no label of the study",
            where=f"site.yaml data.label_map (column '{data.label}')",
            found=f"{how_many(unmapped, 'rows')} (values not shown)",
            allowed=", ".join(task.labels),
            fix="add the missing values to label_map, or leave rows without an outcome out of the file",
        )
    if len(set(indices)) < 2:
        raise DataError(
            "SITE-E016",
            "all rows have the same outcome",
            where=f"site.yaml data.label (column '{data.label}')",
            fix="check the column, label_map and how the patients were chosen",
        )
    return indices


def _known(data: Data, task: Task) -> dict[str, int]:
    """Return value in the file, in its one spelling, to index of the label."""
    if not data.label_map:
        return {canonical(label): index for index, label in enumerate(task.labels)}
    strangers = sorted({label for label in data.label_map.values() if label not in task.labels})
    if strangers:
        raise ConfigError(
            "SITE-E022",
            "label_map leads to a label that the study does not know",
            where="site.yaml data.label_map",
            found=", ".join(strangers),
            allowed=", ".join(task.labels),
        )
    return {canonical(value): task.labels.index(label) for value, label in data.label_map.items()}

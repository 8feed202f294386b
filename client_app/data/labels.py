"""From the outcome column to the study's labels.

The site's own ``label_map`` alone says which values are read, and which of them count as one: a
study that could choose would learn from refusals which values the file has.
"""

import logging

import pandas as pd

from client_app.data.tables import canonical, column
from fedfm.config.site import Data
from fedfm.config.study import Task
from fedfm.errors import ConfigError, DataError

log = logging.getLogger(__name__)


def label_indices(table: pd.DataFrame, data: Data, task: Task) -> list[int]:
    """Return the index into ``task.labels`` of each row.

    Raises:
        ConfigError: As ``check_labels``.
        DataError: The column is absent (SITE-E014), some rows have an outcome that leads to no
            label (SITE-E015; counted in the log, never shown), or only one class is there (SITE-E016).
    """
    check_labels(data, task)
    known = {canonical(value): task.labels.index(label) for value, label in data.label_map.items()}
    cells = column(table, data.label, setting="data.label").map(canonical, na_action="ignore")
    indices = [known.get(str(cell), -1) for cell in cells]
    unmapped = indices.count(-1)
    if unmapped:
        log.error("data.label_map: the outcome of %d of %d rows is no key of it", unmapped, len(indices))
        raise DataError(
            "SITE-E015",
            "the outcome of some rows leads to no label",
            where=f"site.yaml data.label_map (column '{data.label}')",
            fix="add the missing values to label_map, or leave rows without an outcome out of the file; "
            "the trainer's log says how many",
        )
    if len(set(indices)) < 2:
        raise DataError(
            "SITE-E016",
            "all rows have the same outcome",
            where=f"site.yaml data.label (column '{data.label}')",
            fix="check the column, label_map and how the patients were chosen",
        )
    return indices


def check_labels(data: Data, task: Task) -> None:
    """Return if the study knows every label of the site; looks at the two files alone, never at a row.

    Raises:
        ConfigError: ``label_map`` is empty (SITE-E002), or leads to a label that the study does not
            know (SITE-E022).
    """
    if not data.label_map:
        raise ConfigError("SITE-E002", "label_map is empty", where="site.yaml data.label_map", fix="add `value: label`")
    strangers = sorted({label for label in data.label_map.values() if label not in task.labels})
    if strangers:
        raise ConfigError(
            "SITE-E022",
            "label_map leads to a label that the study does not know",
            where="site.yaml data.label_map",
            found=", ".join(f"'{label}'" for label in strangers),
            allowed=", ".join(task.labels),
        )

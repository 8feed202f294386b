"""From a site's table to examples, and from examples to splits.

To add a kind of data: write a function with the signature of ``text.notes``, add it to
``LOADERS``, and add its name to the choices of ``data.loader`` in ``fedfm/config/site.py``.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from client_app.data import columns, template, text
from client_app.data.groups import group_memberships
from client_app.data.labels import check_labels, label_indices
from client_app.data.split import split_by_column, split_by_patient
from client_app.data.tables import Content, column, read_table
from fedfm.config.site import Data, Site
from fedfm.config.study import Task
from fedfm.errors import DataError
from fedfm.examples import Example, Splits

log = logging.getLogger(__name__)

Loader = Callable[[pd.DataFrame, Data, Task], list[Content]]

LOADERS: dict[str, Loader] = {
    "text": text.notes,
    "template": template.sentences,
    "columns": columns.numbers,
}

_READS = {"text": "text", "template": "text", "columns": "columns"}


def load_examples(site: Site, task: Task) -> tuple[Example, ...]:
    """Return the examples of a site in the order of its file; rows without a note are left out.

    Raises:
        ConfigError: The site file misses a setting of its loader.
        DataError: The table does not match the site file, or not the study. No message holds a value of a row.
    """
    check_fit(site.data, task)
    return examples_of(read_table(Path(site.data.path)), site, task)


def load_splits(site: Site, task: Task) -> Splits:
    """Return the examples of a site in three sets that share no patient.

    By ``data.split.column`` where one is set, else by a hash of the patient, salted by the cohort.

    Raises:
        ConfigError: As ``load_examples``, and for shares that do not add up.
        DataError: As ``load_examples``, and for patients in two sets or none to train on.
    """
    check_fit(site.data, task)
    return splits_of(read_table(Path(site.data.path)), site, task)


def splits_of(table: pd.DataFrame, site: Site, task: Task) -> Splits:
    """Return the splits of a table that was read, as ``load_splits`` does of the site's own."""
    split = site.data.split
    if not split.column:
        return split_by_patient(examples_of(table, site, task), split, site.cohort or site.id)
    words = column(table, split.column, setting="data.split.column").fillna("").str.lower().tolist()
    examples = examples_of(table, site, task)
    return split_by_column(examples, [words[example.row] for example in examples])


def check_fit(data: Data, task: Task) -> None:
    """Refuse what the site file does not offer before the table is opened: the same whatever it holds.

    Raises:
        ConfigError: As ``check_labels``.
        DataError: The loader gives something else than the study reads (SITE-E025), or not all columns (SITE-E023).
    """
    if task.inputs != _READS[data.loader]:
        raise DataError(
            "SITE-E025",
            f"the study reads {task.inputs}, the site's loader offers {_READS[data.loader]}",
            where="site.yaml data.loader",
            found=data.loader,
            allowed=", ".join(name for name, reads in _READS.items() if reads == task.inputs),
        )
    check_labels(data, task)
    if data.loader == "columns":
        columns.check_columns(data, task)


def examples_of(table: pd.DataFrame, site: Site, task: Task) -> tuple[Example, ...]:
    """Return the examples of a table that was read, as ``load_examples`` does of the site's own."""
    data = site.data
    patients = patients_of(table, data)
    labels = label_indices(table, data, task)
    groups = group_memberships(table, data)
    contents = LOADERS[data.loader](table, data, task)
    examples = tuple(
        _example(content, patient=patients[row], label=labels[row], groups=groups[row], row=row)
        for row, content in enumerate(contents)
        if content is not None
    )
    _report_dropped(len(contents) - len(examples), len(contents))
    return examples


def _example(
    content: str | tuple[float, ...], *, patient: str, label: int, groups: dict[str, str], row: int
) -> Example:
    if isinstance(content, str):
        return Example(patient, label, text=content, groups=groups, row=row)
    return Example(patient, label, columns=content, groups=groups, row=row)


def patients_of(table: pd.DataFrame, data: Data) -> list[str]:
    """Return each row's patient; ``17.0``, which spreadsheets make of 17 beside a gap, is 17.

    Raises:
        DataError: There is no such column (SITE-E014), or a row names no patient (SITE-E017).
    """
    cells = column(table, data.patient, setting="data.patient")
    missing = int(cells.isna().sum())
    if missing:
        log.error("data.patient: %d of %d rows name no patient", missing, len(cells))
        raise DataError(
            "SITE-E017",
            "some rows name no patient",
            where=f"site.yaml data.patient (column '{data.patient}')",
            fix="privacy is counted by patient: give every row its patient's identifier; "
            "the trainer's log says how many rows",
        )
    return [re.sub(r"(?<=\d)\.0+$", "", str(cell)) if str(cell)[0].isdigit() else str(cell) for cell in cells]


def _report_dropped(dropped: int, total: int) -> None:
    if dropped == total:
        raise DataError("SITE-E019", "no row has a note", where="site.yaml data")
    if dropped:
        log.warning("left out %d of %d rows: they have no note", dropped, total)

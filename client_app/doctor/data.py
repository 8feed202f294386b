"""The patients' table: can it be read as the site file says, and is there enough of everybody.

No finding has a value of the table or a count of it: shares are named by the bound that they pass, cohorts as enough
or too few. Groups are named only where the site file lists them: of others, the name is a value of the table.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from client_app.data.catalog import LOADERS, check_fit, patients_of, splits_of
from client_app.data.groups import declared_groups
from client_app.data.labels import label_indices
from client_app.data.named import columns_named, columns_read
from client_app.data.tables import column, read_table
from client_app.doctor.examined import Examined
from client_app.doctor.identifiers import identifiers
from client_app.doctor.leaks import leaks
from fedfm.config.site import Data, Site
from fedfm.config.study import Column, Task
from fedfm.errors import DataError, FedFMError
from fedfm.examples import Example, Splits
from fedfm.findings import Finding, of_error
from fedfm.metrics.suppression import RULES

_BOUNDS = ((0.5, "more than half"), (0.25, "more than 25 %"), (0.1, "more than 10 %"), (0.02, "more than 2 %"))
_RARE = 0.01  # of the rows
_OFF = 0.2  # of the declared patients


def findings(examined: Examined) -> Iterator[Finding]:
    """Yield what is to be said of the table; where it cannot be read as a whole, why."""
    data = examined.site.data
    table = read_table(Path(data.path))
    yield Finding("data", "file", "pass", "read: of a known kind, not empty, and UTF-8")
    absent = [finding for setting, name in columns_named(data) for finding in _absent(table, name, setting)]
    yield from absent
    if absent:
        return
    yield Finding("data", "columns", "pass", "every column that the site file names is there once")
    yield from _missing(table, data)
    yield from _duplicates(table, data)
    task = examined.study.task if examined.study else own_task(data)
    refused = [finding for check in _READABLE for finding in _refused(check, table, data, task)]
    yield from refused
    if refused:
        return
    yield Finding("data", "values", "pass", "patients, outcomes and inputs of every row can be read")
    yield from _outcomes(label_indices(table, data, task))
    splits = splits_of(table, examined.site, task)
    yield from _cohort(examined.site, splits)
    yield from _groups(examined.site, splits)
    yield from leaks(table, data, task)
    yield from identifiers(table, data, LOADERS[data.loader](table, data, task))


def own_task(data: Data) -> Task:
    """Return the task that fits the site file where there is no study: its labels, and all that it offers."""
    labels = sorted(set(data.label_map.values()))
    if data.loader == "columns":
        return Task(labels=labels, inputs="columns", columns=[Column(name, 0, 1) for name in data.columns])
    return Task(labels=labels)


def band(share: float) -> str:
    """Return a share by the highest bound that it passes; empty where it passes none."""
    return next((name for bound, name in _BOUNDS if share > bound), "")


def _absent(table: pd.DataFrame, name: str, setting: str) -> Iterator[Finding]:
    try:
        column(table, name, setting=setting)
    except DataError as error:
        yield from of_error("data", "columns", error)


def _read_patients(table: pd.DataFrame, data: Data, _: Task) -> object:
    return patients_of(table, data)


def _fits(_: pd.DataFrame, data: Data, task: Task) -> object:
    check_fit(data, task)
    return None


def _read_contents(table: pd.DataFrame, data: Data, task: Task) -> object:
    contents = LOADERS[data.loader](table, data, task)
    if not any(content is not None for content in contents):
        raise DataError("SITE-E019", "no row has a note", where="site.yaml data")
    return contents


_READABLE: tuple[Callable[[pd.DataFrame, Data, Task], object], ...] = (
    _fits,
    _read_patients,
    label_indices,
    _read_contents,
)
"""What a study reads; each raises where it cannot, and all are tried, so that all is told at once."""


def _refused(
    check: Callable[[pd.DataFrame, Data, Task], object], table: pd.DataFrame, data: Data, task: Task
) -> Iterator[Finding]:
    try:
        check(table, data, task)
    except FedFMError as error:
        yield from of_error("data", "values", error)


def _missing(table: pd.DataFrame, data: Data) -> Iterator[Finding]:
    named = {name: setting for setting, name in columns_read(data)}
    named |= {group.column: f"data.groups.{attribute}.column" for attribute, group in data.groups.items()}
    is_missing = {name: float(column(table, name, setting=setting).isna().mean()) for name, setting in named.items()}
    told = [f"{name}: {band(share)}" for name, share in is_missing.items() if band(share)]
    if told:
        what = f"cells are missing in {', '.join(told)}"
        yield Finding("data", "missing", "warn", what, "SITE-W017", "see whether the export left them out")
    else:
        yield Finding("data", "missing", "pass", "of no column that is used are more than 2 % of the cells missing")


def _duplicates(table: pd.DataFrame, data: Data) -> Iterator[Finding]:
    if table.duplicated().any():
        what = "some rows stand in the table more than once, in every cell the same"
        yield Finding("data", "duplicates", "warn", what, "SITE-W018", "export again, each row once")
    elif data.loader == "text" and _is_shared(table, data):
        what = "some notes stand under several patients, who may be divided between training and test"
        yield Finding("data", "duplicates", "warn", what, "SITE-W018", "take out copied notes and empty forms")
    else:
        yield Finding("data", "duplicates", "pass", "no row stands twice, and no note under several patients")


def _is_shared(table: pd.DataFrame, data: Data) -> bool:
    """Whether a note of some length stands under several patients; a short one may well be written twice."""
    notes = column(table, data.text, setting="data.text")
    patients = column(table, data.patient, setting="data.patient")
    long = notes.str.len() > 100
    return bool((patients[long].groupby(notes[long]).nunique() > 1).any())


def _outcomes(labels: list[int]) -> Iterator[Finding]:
    counts = np.bincount(labels)
    if counts[counts > 0].min() < _RARE * len(labels):
        what = "an outcome stands in fewer than 1 % of the rows: little can be learned of it under privacy"
        yield Finding("data", "outcomes", "warn", what, "SITE-W016", "check data.label and how patients were chosen")
    else:
        yield Finding("data", "outcomes", "pass", "each outcome stands in 1 % of the rows or more")


def _cohort(site: Site, splits: Splits) -> Iterator[Finding]:
    patients = len({example.patient for example in splits.train})
    least = site.policy.min_patients
    if patients < least:
        what = f"fewer training patients than policy.min_patients ({least})"
        yield Finding("data", "cohort", "fail", what, "SITE-E021", "take part when the cohort has grown")
    else:
        yield Finding("data", "cohort", "pass", f"enough training patients: at least policy.min_patients ({least})")
    if not (1 - _OFF) * patients <= site.declared_patients <= (1 + _OFF) * patients:
        what = "declared_patients differs from the training patients by more than 20 %"
        fix = "declare about as many as train: too many add too much noise, too few weigh too little"
        yield Finding("data", "declared", "warn", what, "SITE-W021", fix)
    else:
        yield Finding("data", "declared", "pass", "declared_patients is within 20 % of the training patients")


def _groups(site: Site, splits: Splits) -> Iterator[Finding]:
    """Name listed groups of which a table by outcome would have small cells, so that it is withheld or merged."""
    rule = RULES[site.policy.small_cells]
    if rule is None:
        yield Finding("data", "groups", "pass", "policy.small_cells: none; no cell is suppressed, however small")
        return
    least = rule.least
    small, is_other_small = [], False
    for attribute, group in site.data.groups.items():
        listed = declared_groups(group)
        cells = _by_group(splits.test, attribute)
        small += [f"{attribute}={name}" for name in listed if min(cells.get(name, {}).values(), default=0) < least]
        is_other_small |= any(min(by.values()) < least for name, by in cells.items() if name not in listed)
    told = [*small, *(["groups that the site file does not list"] if is_other_small else [])]
    if told:
        what = f"few test patients by outcome (fewer than {least}): {', '.join(told)}; exact counts are suppressed"
        yield Finding("data", "groups", "warn", what, "SITE-W022", "merge groups in the site file: values or bands")
    else:
        yield Finding("data", "groups", "pass", f"each group has at least {least} test patients of each outcome")


def _by_group(examples: tuple[Example, ...], attribute: str) -> dict[str, dict[int, int]]:
    """Return the patients of each group by outcome; an outcome that no one has counts 0."""
    patients: dict[str, dict[int, set[str]]] = {}
    labels = sorted({example.label for example in examples})
    for example in examples:
        if name := example.groups.get(attribute):
            of_group = patients.setdefault(name, {label: set() for label in labels})
            of_group[example.label].add(example.patient)
    return {name: {label: len(those) for label, those in by.items()} for name, by in patients.items()}

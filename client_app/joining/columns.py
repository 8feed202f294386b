"""What the columns of a hospital's table may mean, from their names and kinds; a patient's value is never shown."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

ENOUGH = 11
"""Patients who must have a label before its word is shown on the screen of whoever sets the site up."""

_MOST_LABELS = 20
_LONG = 40.0  # characters; a column that is longer on average holds notes
_NUMERIC = 0.95  # share of the cells that are there
_PATIENT = ("mrn", "patientid", "patient", "subjectid", "personid", "patientunitstayid", "pid", "nhsnumber", "id")
_LABEL = ("label", "outcome", "target", "died", "death", "mortality", "diagnosis", "class", "num")
_TEXT = ("notetext", "note", "notes", "text", "report", "narrative", "abstract", "summary")
_SEX = ("sex", "gender")
_AGE = ("age", "ageyears", "anchorage", "ageatadmission")
_FEMALE, _MALE = {"f", "female", "w", "woman"}, {"m", "male", "man"}


@dataclass(frozen=True)
class Column:
    """A column, without a value of it.

    Attributes:
        name: As in the first line of the file.
        numeric: Nearly all cells that are there are numbers.
        distinct: Different values.
        length: Mean number of characters of the cells that are there.
    """

    name: str
    numeric: bool
    distinct: int
    length: float


@dataclass(frozen=True)
class Guess:
    """What the columns seem to be; "" or empty where nothing fits.

    Attributes:
        patient: Identifier of the patient.
        label: Outcome.
        text: Note.
        numbers: Columns of numbers that a study could use.
        sex: Column of sex.
        age: Column of age in years.
    """

    patient: str
    label: str
    text: str
    numbers: tuple[str, ...]
    sex: str
    age: str


def describe(table: pd.DataFrame) -> tuple[Column, ...]:
    """Return what kind each column of a table is of, as ``client_app.data.tables.read_table`` read it."""
    return tuple(_describe(str(name), table.iloc[:, index]) for index, name in enumerate(table.columns))


def guess(columns: Sequence[Column]) -> Guess:
    """Return which column seems to be what. Each is given one meaning only."""
    left = list(columns)

    def take(names: Sequence[str], fits: Callable[[Column], bool]) -> str:
        found = _first_named(left, names, fits)
        left[:] = [column for column in left if column.name != found]
        return found

    sex = take(_SEX, lambda column: 2 <= column.distinct <= 10)
    age = take(_AGE, lambda column: column.numeric)
    label = take(_LABEL, lambda column: 2 <= column.distinct <= _MOST_LABELS)
    text = take(_TEXT, lambda column: not column.numeric)
    if not text:
        long = max((column for column in left if not column.numeric), key=lambda column: column.length, default=None)
        text = take([_plain(long.name)], lambda column: column.length >= _LONG) if long else ""
    patient = take(_PATIENT, lambda column: column.distinct > _MOST_LABELS)
    numbers = tuple(column.name for column in columns if column.numeric and column.name not in (patient, label, sex))
    return Guess(patient, label, text, numbers, sex, age)


def labels_to_show(cells: "pd.Series[str]", patients: "pd.Series[str]") -> list[str]:
    """Return the values of an outcome, if they are few and ``ENOUGH`` patients have each; else none of them.

    One rare value hides all: which values are rare would tell of single patients.

    Args:
        cells: The outcome of each row.
        patients: The patient of each row; one with many rows counts once, and a row without a patient not at all.
    """
    counts = patients.groupby(cells).nunique()
    if len(counts) > _MOST_LABELS or (counts < ENOUGH).any():
        return []
    return sorted(map(str, counts.index))


def sex_words(cells: "pd.Series[str]", patients: "pd.Series[str]") -> dict[str, str]:
    """Return value to group where a column of sex holds the usual words, else nothing. Shows no rare value."""
    known = {**dict.fromkeys(_FEMALE, "female"), **dict.fromkeys(_MALE, "male")}
    shown = labels_to_show(cells.where(cells.str.strip().str.lower().isin(known.keys())), patients)
    words = {value: known[value.strip().lower()] for value in shown}
    return words if {"female", "male"} <= set(words.values()) else {}


def rounded_patients(patients: int, *, train: float) -> int:
    """Return a rounded number of training patients, which may be public.

    Args:
        patients: Exact number of patients in the table.
        train: Share of them that trains.

    Returns:
        The nearest multiple of 10 below 200, of 50 below 1000, then of two leading digits.
    """
    training = round(patients * train)
    step = 10 if training < 200 else 50 if training < 1000 else 10 ** (len(str(training)) - 2)
    return max(step, round(training / step) * step)


def _describe(name: str, cells: "pd.Series[str]") -> Column:
    present = cells.dropna()
    numbers = pd.to_numeric(present, errors="coerce").notna()
    return Column(
        name,
        numeric=bool(len(present)) and float(numbers.mean()) >= _NUMERIC,
        distinct=int(present.nunique()),
        length=float(present.str.len().mean()) if len(present) else 0.0,
    )


def _first_named(columns: Iterable[Column], names: Sequence[str], fits: Callable[[Column], bool]) -> str:
    """Return the column whose plain name is first in ``names``, of those that fit; else one that ends or begins so."""
    fitting = [column.name for column in columns if fits(column)]
    for name in names:
        if exact := [column for column in fitting if _plain(column) == name]:
            return exact[0]
    for name in (name for name in names if len(name) > 3):
        if near := [column for column in fitting if _plain(column).startswith(name) or _plain(column).endswith(name)]:
            return near[0]
    return ""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())

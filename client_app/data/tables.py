"""Read the hospital's table as text, and say what is wrong with it without quoting it.

Every value is read as text first, so that ``1``, ``1.0`` and ``"1"`` are one value
whatever the file format guessed. Messages name settings, files and columns of the site
file; counts, places and the nearest name stay in the hospital's own log, and a value is
nowhere: a parser's own message may quote a patient's row, so it is dropped, and the
error is raised outside the ``except`` block, where no ``__context__`` can keep it.
"""

import difflib
import gzip
import logging
import re
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from fedfm.errors import DataError

log = logging.getLogger(__name__)

Content = str | tuple[float, ...] | None
"""What a model reads of one row: text, raw numbers, or None when the row says nothing."""

MISSING = ("", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "<NA>")
"""Cells that stand for "not known"."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_table(path: Path) -> pd.DataFrame:
    """Return the table at ``path``: one text column per column of the file, missing cells as NaN.

    Cells are stripped; the cells of ``MISSING`` count as missing.

    Args:
        path: ``.csv``, ``.csv.gz`` (UTF-8, separated by commas, names in the first line) or ``.parquet``.

    Raises:
        DataError: The file is absent, empty, a folder or no table (SITE-E011), may not be read
            (SITE-E012), or is not UTF-8 (SITE-E013).
    """
    outcome = _table_or_error(path)
    if isinstance(outcome, DataError):
        log.error("could not read %s", path)
        raise outcome
    return outcome.apply(_cleaned)


def column(table: pd.DataFrame, name: str, *, setting: str) -> "pd.Series[str]":
    """Return the column that a setting names.

    Args:
        table: As ``read_table`` returns it.
        name: Column that the setting asks for.
        setting: Path of the setting, for example ``data.text``; for the message.

    Raises:
        DataError: There is no such column, or more than one (SITE-E014).
    """
    matches = [index for index, existing in enumerate(table.columns) if existing == name]
    if len(matches) == 1:
        return table.iloc[:, matches[0]]
    where = f"site.yaml {setting}"
    if matches:
        raise DataError("SITE-E014", f"column '{name}' stands more than once", where=where, fix="rename the others")
    # Even in the log only a name much like the one asked for is shown: in a file without a first
    # line of names, the "names" are a patient's values.
    near = difflib.get_close_matches(name, [str(existing) for existing in table.columns], n=1, cutoff=0.7)
    nearest = f"; the nearest is '{near[0]}'" if near else ""
    log.error("%s: no column '%s' in a file of %d columns%s", setting, name, len(table.columns), nearest)
    fix = "write the name as in the first line of the file, with commas between names; the trainer's log says more"
    raise DataError("SITE-E014", f"no column '{name}'", where=where, fix=fix)


def canonical(value: str) -> str:
    """Return one spelling for each value: ``1``, ``1.0`` and ``01`` become ``1``, ``.70`` becomes ``0.7``.

    Text that is no number is returned stripped, otherwise as it stands.
    """
    value = value.strip()
    if not _NUMBER.fullmatch(value):
        return value
    number = float(value)
    if abs(number) >= 1e15:  # beyond this, a float no longer holds every whole number
        return value
    return str(int(number)) if number.is_integer() else repr(number)


def _table_or_error(path: Path) -> pd.DataFrame | DataError:
    """Read the table, or return, never raise, what to tell: nothing a parser said may be its context."""
    try:
        if wrong := _wrong_before_reading(path):
            return wrong
        table = READERS[_ending(path)](path)
    except PermissionError:
        return _file_error("SITE-E012", "the file may not be read", path, fix="give this user the right to read it")
    except UnicodeDecodeError:
        log.warning("%s is not UTF-8 from byte %d on", path, _first_bad_byte(path))
        fix = "convert it, for example: iconv -f latin1 -t utf-8 OLD > NEW"
        return _file_error("SITE-E013", "the file is not UTF-8", path, fix=fix)
    except (OSError, EOFError, ValueError, zlib.error, pd.errors.ParserWarning):
        fix = "check that every line has as many cells as the first, and that text with commas is in quotes"
        return _file_error("SITE-E011", "the file is no readable table", path, fix=fix)
    if table.empty:
        return _file_error("SITE-E011", "the table has no rows", path, fix="export the table again")
    return table


def _wrong_before_reading(path: Path) -> DataError | None:
    if path.is_dir():
        return _file_error("SITE-E011", "the table is a folder", path, fix="name the file inside it")
    if not path.exists():
        return _file_error("SITE-E011", "there is no such file", path, fix="correct the path, or mount the folder")
    if not _ending(path):
        return _file_error("SITE-E011", "the file is of an unknown kind", path, fix=f"save it as {', '.join(READERS)}")
    if path.stat().st_size == 0:
        return _file_error("SITE-E011", "the file is empty", path, fix="export the table again")
    return None


def _cleaned(cells: "pd.Series[str]") -> "pd.Series[str]":
    stripped = cells.str.strip()
    return stripped.mask(stripped.isin(MISSING))


def _file_error(code: str, what: str, path: Path, *, fix: str) -> DataError:
    return DataError(code, what, where="site.yaml data.path", found=path.name, fix=fix)


def _ending(path: Path) -> str:
    return next((ending for ending in READERS if path.name.lower().endswith(ending)), "")


def _read_csv(path: Path) -> pd.DataFrame:
    with warnings.catch_warnings():
        # pandas only warns when lines are longer than the first one, and then shifts or cuts cells.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        cells = pd.read_csv(
            path, dtype="str", header=None, keep_default_na=False, index_col=False, encoding="utf-8-sig"
        )
    table = cells.iloc[1:].reset_index(drop=True)
    table.columns = pd.Index([str(name).strip() for name in cells.iloc[0]])
    return table


def _read_parquet(path: Path) -> pd.DataFrame:
    # Nullable types keep whole numbers whole; plain ones would turn an identifier next to a gap into a float.
    table = pd.read_parquet(path, dtype_backend="numpy_nullable").reset_index(drop=True)
    return table.astype("str")


def _first_bad_byte(path: Path) -> int:
    """Return the offset of the first byte that is not UTF-8, in the uncompressed file."""
    offset = 0
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for line in file:
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return offset + error.start
            offset += len(line)
    return offset


READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": _read_csv,
    ".csv.gz": _read_csv,
    ".parquet": _read_parquet,
}
"""Ending of a file's name to how it is read."""

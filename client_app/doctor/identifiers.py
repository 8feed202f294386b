"""Whether what a model reads names patients: by patterns in a sample of the notes, and by the names of columns."""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from client_app.data.named import columns_read
from client_app.data.tables import Content, column
from fedfm.config.site import Data
from fedfm.findings import Finding

PATTERNS: Mapping[str, re.Pattern[str]] = {
    "e-mail addresses": re.compile(r"\b[\w.+-]+@[\w-]+\.[a-zA-Z]{2,}\b"),
    "telephone numbers": re.compile(r"(?<!\d)(?:\+\d{1,3}[ .-]?)?\(?\d{2,4}\)?[ .-]\d{3,4}[ .-]\d{3,4}(?!\d)"),
    "record numbers": re.compile(
        r"(?i)\b(?:mrn|nhs|ssn|case|record|patient)\s*(?:no|number|id|nr)?\.?\s*[:#]?\s*[a-z]{0,3}-?\d{5,}"
        r"|(?<![\d.])\d{7,12}(?![\d.])"
    ),
    "dates of birth": re.compile(r"(?i)\b(?:dob|date of birth|born(?: on)?)\b\W{0,3}\d{1,4}[./ -]\w{1,9}[./ -]\d{2,4}"),
}
"""Kind of identifier to how it is recognised; a kind is named, and never what was found."""

_NAMES = re.compile(
    r"(?i)^(?:(?:patient|first|last|middle|given|family|full|birth|maiden)[ _-]?)?(?:sur|fore)?name$"
    r"|e-?mail|phone|address|postcode|zip[ _-]?code|\bssn\b|\bmrn\b|birth[ _-]?dat|date[ _-]?of[ _-]?birth|\bdob\b"
)
_SAMPLE = 5000  # rows; evenly spaced, so that a long table takes no longer
_FEW = 0.005  # of the rows; below, a pattern may be met by chance
_LEAST = 2  # rows


def identifiers(table: pd.DataFrame, data: Data, contents: Sequence[Content]) -> Iterator[Finding]:
    """Yield which kinds of identifiers are in what a model reads."""
    chosen = np.unique(np.linspace(0, len(table) - 1, min(_SAMPLE, len(table))).astype(int)).tolist()
    texts = {row: str(content) for row in chosen if isinstance(content := contents[row], str)}
    told = [kind for kind, pattern in PATTERNS.items() if _is_met(list(map(pattern.search, texts.values())))]
    told += _own(table, data, texts)
    read = [name for _, name in columns_read(data) if _NAMES.search(name) or name == data.patient]
    told += [f"column {name}" for name in read]
    if told:
        what = f"what the model reads seems to name patients: {', '.join(told)}"
        yield Finding("data", "identifiers", "warn", what, "SITE-W020", "take identifiers out before the export")
    else:
        yield Finding("data", "identifiers", "pass", "no identifier was recognised in what the model reads")


def _own(table: pd.DataFrame, data: Data, texts: Mapping[int, str]) -> Iterator[str]:
    """Yield whose own identifier or name, of another column of the same row, stands in the note."""
    others = [str(name) for name in table.columns if _NAMES.search(str(name)) and list(table.columns).count(name) == 1]
    read = {name for _, name in columns_read(data)}
    for name in dict.fromkeys((data.patient, *others)):
        cells = column(table, name, setting="data")
        if name not in read and _is_met([_stands_in(cells.iloc[row], text) for row, text in texts.items()]):
            yield "the patient's own identifier" if name == data.patient else "the patient's own name or address"


def _stands_in(cell: object, text: str) -> bool:
    """Whether the cell, or a word of it, stands in the text; short ones stand anywhere."""
    words = [str(cell), *str(cell).split()] if isinstance(cell, str) else []
    return any(len(word) >= 4 and re.search(rf"(?i)\b{re.escape(word)}\b", text) for word in words)


def _is_met(found: Sequence[object]) -> bool:
    rows = sum(map(bool, found))
    return rows >= max(_LEAST, _FEW * len(found))

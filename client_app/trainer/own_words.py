"""The words that only this hospital uses, for its columns and its file: they name errors here, and do not leave.

A column may be named after a person, and an export after a patient. The setting that leads to it says enough outside.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from fedfm.config.site import Data
from fedfm.errors import FedFMError

HIDDEN = "…"
_IN_BRACES = re.compile(r"\{([^{}]*)\}")


def without_own_words(error: FedFMError, data: Data) -> FedFMError:
    """Return the error as it may leave: same code, and ``…`` where it quotes a name of the hospital's own.

    Guarantees:
        No column that the site file names stands in quotes in it, nor a value or clause that it lists; nor,
        anywhere, the name of the table's file.
    """
    text = str(error)
    for word in sorted(set(filter(None, _words(data))), key=len, reverse=True):
        text = text.replace(f"'{word}'", f"'{HIDDEN}'")
    file = Path(data.path)
    for name in filter(None, (data.path, file.name, file.stem)):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", HIDDEN, text)
    return error if text == str(error) else FedFMError.received(error.code, text)


def _words(data: Data) -> Iterator[str]:
    yield from (data.patient, data.label, data.text, data.split.column, *data.label_map, *data.label_map.values())
    yield from data.columns.values()
    yield from _IN_BRACES.findall(data.template)
    yield from (clause.strip() for clause in data.template.split(";"))
    for column, words in data.words.items():
        yield from (column, *words)
    for group in data.groups.values():
        yield from (group.column, *group.values)

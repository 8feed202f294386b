"""The words that only this hospital uses, for columns, files and folders: they name errors here, and do not leave.

A column may be named after a person, and an export after a patient. The setting that leads to it says enough outside.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from fedfm.config.site import Data, Explanations, Site
from fedfm.errors import FedFMError

HIDDEN = "…"
_IN_BRACES = re.compile(r"\{([^{}]*)\}")
_ANY_PATH = re.compile(r"(?<![\w.:/…-])/(?:[^\s/'\",;:—]+/)+[^\s'\",;:—]*")
"""An absolute path of two parts or more, of whichever machine."""


def without_own_words(error: FedFMError, site: Site) -> FedFMError:
    """Return the error as it may leave: same code, and ``…`` where it quotes a name of the hospital's own.

    Guarantees:
        No column that the site file names stands in quotes in it, nor a value, clause or watched phrase that it lists;
        nor, anywhere, the name of the table's file or of the cohort's ledger, a folder that the site file names with
        what follows it, or another absolute path.
    """
    text = str(error)
    for word in sorted(set(filter(None, _words(site.data, site.explanations))), key=len, reverse=True):
        text = text.replace(f"'{word}'", f"'{HIDDEN}'")
    for place in sorted(set(filter(_is_place, _places(site))), key=len, reverse=True):
        # to the end of the part of the error: the rest of a path may hold blanks
        text = re.sub(rf"(?<!\w){re.escape(place)}(?:/[^—\n]*?(?= — |\n|$)|(?!\w))", HIDDEN, text)
    file = Path(site.data.path)
    for name in filter(None, (file.name, file.stem)):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", HIDDEN, text)
    if site.cohort:
        text = text.replace(f"ledger-{site.cohort}.", f"ledger-{HIDDEN}.")
    text = _ANY_PATH.sub(HIDDEN, text)
    return error if text == str(error) else FedFMError.received(error.code, text)


def _is_place(path: str) -> bool:
    """Whether a text is a path that can be told from a word: ``state`` alone is one of the settings, too."""
    return "/" in path.strip("/.") or path.startswith("/")


def _places(site: Site) -> Iterator[str]:
    named = (site.data.path, site.state, site.network.authority, site.network.node_key, *site.weights.values())
    for path in filter(None, named):
        yield from (path, str(Path(path).absolute()), str(Path(path).resolve()))


def _words(data: Data, watched: Explanations) -> Iterator[str]:
    yield from (data.patient, data.label, data.text, data.split.column, *data.label_map, *data.label_map.values())
    yield from data.columns.values()
    yield from _IN_BRACES.findall(data.template)
    yield from (clause.strip() for clause in data.template.split(";"))
    for column, words in data.words.items():
        yield from (column, *words)
    for group in data.groups.values():
        yield from (group.column, *group.values)
    for name, phrases in watched.shortcuts.items():
        yield from (name, *phrases)
    for name, exchanged in watched.swaps.items():
        yield from (name, *exchanged, *exchanged.values())

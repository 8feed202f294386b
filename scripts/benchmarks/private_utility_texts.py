"""Docstrings of six installed libraries as a text task that needs no download: which library does this one come from?

The sources are read as text and never imported. Which docstrings there are depends on the versions of the libraries,
which the benchmark states.
"""

import ast
import hashlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import pandas as pd

LIBRARIES = {
    "numpy": "numpy",
    "pandas": "pandas",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torch": "torch",
    "transformers": "transformers",
}
"""Package to the name it is distributed under; the packages are the classes."""
SHORTEST = 60
"""Characters; shorter docstrings say next to nothing."""
TRAINING = 1000
"""Docstrings of each library that may train."""
TESTED = 2000
"""Docstrings of all libraries together that are tested and never train."""

_NAMES = re.compile(
    r"numpy|(?<![a-z])np(?=\.)|pandas|(?<![a-z])pd(?=\.)|scipy|(?<![a-z])sp(?=\.)|scikit[-_ ]?learn|sklearn|"
    r"pytorch|torch(?:vision|audio)?|transformers|hugging ?face",
    re.IGNORECASE,
)
_NO_SOURCES = {"tests", "test", "_vendor", "externals", "third_party"}


def docstrings(packages: Sequence[str] = tuple(LIBRARIES)) -> pd.DataFrame:
    """Return the docstrings of the packages, in an order that depends on the texts alone.

    Returns:
        Columns ``text_id``, ``text`` (names of the libraries masked, one space between words) and ``library``.
        No two rows begin with the same 120 characters; what two libraries share is left out.
    """
    rows = [(library, text) for library in packages for text in _of_package(library)]
    table = pd.DataFrame(rows, columns=["library", "text"])
    beginning = table["text"].str[:120].str.lower()
    shared = table.groupby(beginning)["library"].transform("nunique") > 1
    table = table[~shared & ~beginning.duplicated()]
    table.insert(0, "text_id", [hashlib.sha256(text.encode()).hexdigest()[:16] for text in table["text"]])
    return table.sort_values("text_id", ignore_index=True)


def divided(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``TESTED`` texts to test, classes as even as can be, and ``TRAINING`` of each class that may train.

    Adds the column ``split``; the order, and with it the choice, is that of ``docstrings``.
    """
    classes = sorted(table["library"].unique())
    parts = []
    for number, library in enumerate(classes):
        own = table[table["library"] == library]
        tested = TESTED // len(classes) + (number < TESTED % len(classes))
        parts += [own[:tested].assign(split="test"), own[tested : tested + TRAINING].assign(split="train")]
    chosen: pd.DataFrame = pd.concat(parts).sort_values("text_id", ignore_index=True)
    return chosen


def versions() -> str:
    """Return ``numpy 2.0.0, pandas 3.0.0, ...``: where the texts come from."""
    return ", ".join(f"{name} {version(name)}" for name in LIBRARIES.values())


def _of_package(library: str) -> Iterator[str]:
    found = importlib.util.find_spec(library)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(library)
    root = Path(found.origin).parent
    for path in sorted(root.rglob("*.py")):
        if _NO_SOURCES.isdisjoint(path.relative_to(root).parts):
            yield from _of_source(path.read_text(encoding="utf-8"))


def _of_source(source: str) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except SyntaxError:  # libraries ship templates and sources for other versions of Python
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            text = masked(ast.get_docstring(node) or "")
            if len(text) >= SHORTEST:
                yield text


def masked(text: str) -> str:
    """Return the text with the libraries' names and aliases replaced, one space between words."""
    return " ".join(_NAMES.sub("library", text).split())

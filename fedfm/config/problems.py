"""Collect every problem of a configuration, so that a person sees all of them at once."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fedfm.errors import ConfigError, ConfigErrors

CODES = {
    "E001": "unknown key",
    "E002": "a required setting is missing",
    "E003": "wrong type of value",
    "E004": "the text cannot be read as YAML or JSON",
    "E005": "a word without quotes that YAML reads as something else",
    "E006": "the same key twice",
    "E007": "text of the wrong form",
    "E008": "number outside its range",
    "E009": "not one of the allowed words",
    "E030": "settings that do not fit together",
    "E031": "an interpolation that cannot be used here",
    "E032": "configuration file or folder missing",
    "E033": "an override that cannot be read",
    "E034": "unknown option or rule",
}
"""Numbers of the problems of a configuration; the prefix is ``STUDY-`` or ``SITE-``."""

_MOST = 50  # a hostile text must not produce a message without end


@dataclass(frozen=True)
class Place:
    """Where a value stands.

    Attributes:
        where: File and line, or the override's text.
        written: The value's text as a person wrote it; None where that is not known.
        key: The key's text as written; None where that is not known.
    """

    where: str
    written: str | None = None
    key: str | None = None


class Problems:
    """Problems found so far in one configuration.

    Args:
        family: ``"STUDY"`` or ``"SITE"``.
        locate: Setting path to the place where its value stands.
        settings: Every setting path of the schema, for "did you mean".
    """

    def __init__(self, family: str, locate: Callable[[str], Place], settings: Sequence[str] = ()) -> None:
        self.family, self.locate, self.settings = family, locate, tuple(settings)
        self.errors: list[ConfigError] = []
        self._paths: list[str] = []

    def add(self, code: str, what: str, *, path: str = "", found: str = "", allowed: str = "", fix: str = "") -> None:
        """Add one problem; ``path`` is the setting it concerns."""
        where = f"{self.locate(path).where} {path}".strip()
        self._keep(path, ConfigError(f"{self.family}-{code}", what, where=where, found=found, allowed=allowed, fix=fix))

    def add_at(self, code: str, what: str, where: str, *, found: str = "", allowed: str = "", fix: str = "") -> None:
        """Add one problem at a place that is no setting, for example a line or an override."""
        self._keep("", ConfigError(f"{self.family}-{code}", what, where=where, found=found, allowed=allowed, fix=fix))

    def _keep(self, path: str, error: ConfigError) -> None:
        if len(self.errors) < _MOST:
            self.errors.append(error)
            self._paths.append(path)

    def touch(self, prefixes: Iterable[str]) -> bool:
        """Whether a problem lies at, under or above one of these setting paths."""
        return any(
            path == prefix or path.startswith(f"{prefix}.") or prefix.startswith(f"{path}.")
            for prefix in prefixes
            for path in self._paths
            if path
        )

    def raise_if_any(self) -> None:
        """End here where there is a problem.

        Raises:
            ConfigErrors: With every problem that was found.
        """
        if self.errors:
            raise ConfigErrors(self.errors)


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """``did you mean X?`` for the nearest of the names, or an empty text."""
    near = difflib.get_close_matches(word[:80], list(names), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else ""


def shown(value: object) -> str:
    """A value as a message shows it: its kind, and its text cut to a readable length."""
    kinds = {
        str: "text",
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        list: "a list",
        dict: "a map",
    }
    if value is None:
        return "nothing"
    text = ascii(value) if isinstance(value, str) else str(value)
    kind = kinds.get(type(value), type(value).__name__)
    return f"{kind} {text if len(text) <= 60 else text[:57] + '...'}"

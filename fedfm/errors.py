"""Every error a person may meet, each with a code, a place and a way out.

    FedFMError
    ├── ConfigError             a study or site file says something that cannot be
    ├── DataError               the hospital's data does not match its site file
    ├── ModelError              weights absent, unreadable, not the pinned ones, or not trainable as asked
    ├── WireError               a message of another version, layout or shape
    │   └── IncompatibleUpdate  an update that must not be averaged
    ├── PolicyError             a study asks for more than the site allows
    │   └── PrivacyBudgetExceeded
    ├── Withheld                a site keeps back a model whose reasons do not hold
    └── EngineError             Flower, a port, a certificate, a process

``str(error)`` names settings, and files and columns of the site file; never a count of rows or
patients, never a value that stands in a patient's row. Where it leaves the trainer, the file's and
the columns' names are taken out, and paths.
Anything that is not a ``FedFMError`` stays at the hospital and leaves as an incident number.
"""


class FedFMError(Exception):
    """What is wrong, where, what was found, what is allowed, and what to do.

    Args:
        code: Stable identifier, for example ``"SITE-E014"``; listed in ``docs/errors.md``.
        what: One clause, for example ``no column 'note_txt'``.
        where: File, line, setting or site, for example ``site.yaml:12 data.text``.
        found: What stood there; never a value from a patient's row.
        allowed: What may stand there.
        fix: What to do next, for example a command.
    """

    def __init__(
        self, code: str, what: str, *, where: str = "", found: str = "", allowed: str = "", fix: str = ""
    ) -> None:
        self.code, self.what, self.where = code, what, where
        self.found, self.allowed, self.fix = found, allowed, fix
        parts = [f"{code} {what}", where]
        parts += [f"{label}: {text}" for label, text in (("got", found), ("allowed", allowed), ("fix", fix)) if text]
        super().__init__(" — ".join(part for part in parts if part))

    @classmethod
    def received(cls, code: str, text: str) -> "FedFMError":
        """Return an error that another process stated, with its whole text."""
        return cls(code, text.removeprefix(f"{code} "))


class ConfigError(FedFMError):
    """A study or site file says something that cannot be."""


class ConfigErrors(ConfigError):
    """All problems of one composition at once; ``problems`` holds each."""

    def __init__(self, problems: "list[ConfigError]") -> None:
        self.problems = problems
        first = problems[0]
        super().__init__(first.code, "\n".join(str(problem) for problem in problems).removeprefix(f"{first.code} "))


class DataError(FedFMError):
    """The hospital's data does not match its site file."""


class ModelError(FedFMError):
    """Weights absent, unreadable, not the pinned ones, or not trainable as asked."""


class WireError(FedFMError):
    """A message of another version, layout or shape."""


class IncompatibleUpdate(WireError):
    """An update that must not be averaged: not finite, another shape or another layout."""


class PolicyError(FedFMError):
    """A study asks for more than the site allows; nothing was computed or spent."""


class PrivacyBudgetExceeded(PolicyError):
    """The next step would pass the privacy budget; nothing was computed or spent."""


class Withheld(FedFMError):
    """A site's own policy keeps back what it has trained; the training is charged."""


class EngineError(FedFMError):
    """Flower, a port, a certificate or a process did not do what it had to."""

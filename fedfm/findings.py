"""What a doctor finds: one line for each check, with what to do about it."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["pass", "warn", "fail", "skip"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        group: What it is about, for example ``"network"``.
        check: Which check, in a few words, for example ``"certificate"``.
        status: ``pass``; ``warn``: it works, and should be seen to; ``fail``: this side cannot take part as it is;
            ``skip``: could not be looked at here, which ``what`` explains.
        what: What was found. Settings, files, columns; never a value of the data, nor an exact count of it.
        code: Code of ``docs/errors.md``; empty where the check passed.
        fix: What to do; empty where nothing is to be done.
    """

    group: str
    check: str
    status: Status
    what: str
    code: str = ""
    fix: str = ""

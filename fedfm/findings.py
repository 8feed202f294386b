"""What a doctor finds: one line for each check, with what to do about it; on the console and for machines.

``fedfm.findings_page`` writes the same as a page, for the security review.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fedfm.errors import ConfigErrors, FedFMError

Status = Literal["pass", "warn", "fail", "skip"]
STATUSES: tuple[Status, ...] = ("fail", "warn", "pass", "skip")
"""The worst first."""

_STYLES: Mapping[Status, str] = {"fail": "bold red", "warn": "yellow", "pass": "green", "skip": "dim"}
_EXIT_CODES: Mapping[Status, int] = {"fail": 2, "warn": 1, "pass": 0, "skip": 0}


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


@dataclass(frozen=True)
class Examination:
    """All that a doctor found in one visit.

    Attributes:
        of: Who was examined, for example ``"hospital-a"``.
        facts: What else a reader has to know, by name: when, which release, what was asked.
        findings: In the order of the checks; those of a group stand together.
    """

    of: str
    facts: Mapping[str, str]
    findings: tuple[Finding, ...]

    @property
    def worst(self) -> Status:
        """``fail``, ``warn``, or ``pass`` where nothing is to be done."""
        found = {finding.status for finding in self.findings}
        return next((status for status in STATUSES[:2] if status in found), "pass")

    @property
    def exit_code(self) -> int:
        """0: all passed or were skipped; 1: warnings; 2: failures."""
        return _EXIT_CODES[self.worst]


def of_error(group: str, check: str, error: FedFMError) -> Iterator[Finding]:
    """Yield the failures that an error stands for: one, or each problem of a composition."""
    for one in error.problems if isinstance(error, ConfigErrors) else [error]:
        told = f"got {one.found}" if one.found else "", f"allowed: {one.allowed}" if one.allowed else ""
        what = " — ".join(part for part in (one.what, one.where, *told) if part)
        yield Finding(group, check, "fail", what, one.code, one.fix)


def by_group(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Return the findings of each group, in their order."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.group, []).append(finding)
    return groups


def as_json(examination: Examination) -> dict[str, Any]:
    """Return all of it for machines."""
    return {
        "of": examination.of,
        "status": examination.worst,
        "exit_code": examination.exit_code,
        "facts": dict(examination.facts),
        "counts": counts(examination.findings),
        "findings": [asdict(finding) for finding in examination.findings],
    }


def counts(findings: Sequence[Finding]) -> dict[Status, int]:
    """Return how many findings have each status, the worst first."""
    return {status: sum(finding.status == status for finding in findings) for status in STATUSES}


def renderables(examination: Examination) -> Iterator[RenderableType]:
    """Yield what a person reads on the console: a table of each group, and the verdict last, where the eye is."""
    examination = plain(examination)
    for group, findings in by_group(examination.findings).items():
        table = Table(title=group, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_header=False)
        table.pad_edge = False
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, max_width=24, overflow="fold")
        table.add_column(overflow="fold")
        for finding in findings:
            status = Text(finding.status.upper(), style=_STYLES[finding.status])
            table.add_row(status, Text(finding.check), _told(finding))
        yield table
    yield Text(verdict(examination), style=_STYLES[examination.worst])


def verdict(examination: Examination) -> str:
    """Return one sentence that sums up."""
    found = counts(examination.findings)
    told = f"{found['fail']} failed, {found['warn']} warned, {found['pass']} passed, {found['skip']} skipped"
    means: Mapping[Status, str] = {
        "fail": "cannot take part as it is",
        "warn": "can take part, and something should be seen to",
        "pass": "all is well" if found["pass"] else "nothing was looked at",
    }
    return f"{examination.of}: {means[examination.worst]} ({told})"


def plain(examination: Examination) -> Examination:
    """Return it with control characters replaced: what others chose may not move a cursor or style a screen."""
    findings = (
        Finding(
            without_controls(one.group),
            without_controls(one.check),
            one.status,
            without_controls(one.what),
            without_controls(one.code),
            without_controls(one.fix),
        )
        for one in examination.findings
    )
    facts = {without_controls(name): without_controls(told) for name, told in examination.facts.items()}
    return Examination(without_controls(examination.of), facts, tuple(findings))


def without_controls(text: str) -> str:
    """Return the text with a replacement for each letter that a terminal acts on or does not show; line feeds stay."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _told(finding: Finding) -> Text:
    """Return code, what was found and what to do, as plain text: none of it is markup."""
    told = Text(f"{finding.code} " if finding.code else "", style="bold")
    told.append(finding.what, style="dim" if finding.status == "skip" else "not bold")
    if finding.fix:
        told.append(f"\nfix: {finding.fix}", style="not bold cyan")
    return told

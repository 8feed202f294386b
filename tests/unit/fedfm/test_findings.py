"""What a doctor found, on the console, as JSON and as a page: all of it, in order of need, and as plain text."""

import json
from html.parser import HTMLParser
from io import StringIO

import pytest
from rich.console import Console

from fedfm.errors import ConfigError, ConfigErrors, DataError
from fedfm.findings import Examination, Finding, as_json, of_error, renderables, verdict
from fedfm.findings_page import page

FACTS = {"looked at": "2026-01-01 00:00 UTC", "release": "0.1.0"}
GOOD = Finding("disk", "space", "pass", "enough")
SKIPPED = Finding("compute", "step", "skip", "not installed here: torch")
WARNED = Finding("disk", "kind", "warn", "state lies on overlay", "SITE-W040", "mount a volume")
FAILED = Finding("data", "columns", "fail", "no column 'nte'", "SITE-E014", "write the name\nas in the file")
HOSTILE = '[red]<script>alert("x")</script>[/red] \x1b[2J & </td>'


def examined(*findings: Finding, of: str = "hospital-a") -> Examination:
    return Examination(of, FACTS, findings)


def console(examination: Examination, width: int = 100) -> str:
    shown = Console(file=StringIO(), width=width, highlight=False, markup=False)
    for each in renderables(examination):
        shown.print(each)
    text = shown.file
    assert isinstance(text, StringIO)
    return text.getvalue()


class Read(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


@pytest.mark.parametrize(
    ("findings", "status", "exit_code"),
    [
        ((GOOD, SKIPPED), "pass", 0),
        ((GOOD, WARNED, SKIPPED), "warn", 1),
        ((WARNED, FAILED, GOOD), "fail", 2),
        ((SKIPPED,), "pass", 0),
    ],
)
def test_the_worst_finding_decides(findings: tuple[Finding, ...], status: str, exit_code: int) -> None:
    examination = examined(*findings)
    told = as_json(examination)
    assert (told["status"], told["exit_code"]) == (status, exit_code)
    assert sum(told["counts"].values()) == len(findings) == len(told["findings"])
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_a_visit_that_looked_at_nothing_does_not_say_that_all_is_well() -> None:
    assert "nothing was looked at" in verdict(examined(SKIPPED))
    assert "all is well" in verdict(examined(GOOD, SKIPPED))


def test_every_word_of_every_finding_is_shown() -> None:
    examination = examined(GOOD, WARNED, SKIPPED, FAILED)
    shown, read = console(examination), Read(page(examination))
    for finding in examination.findings:
        for part in (finding.check, finding.what, finding.code, *finding.fix.splitlines()):
            assert part in shown
            assert part in read.text
        assert finding.status.upper() in shown
    assert shown.rstrip().splitlines()[-1] == verdict(examination)
    assert all(fact in read.text for fact in FACTS.values())


def test_the_page_leads_with_the_verdict_and_what_is_to_be_done_worst_first() -> None:
    read = Read(page(examined(GOOD, WARNED, FAILED)))
    places = [
        read.text.index(words) for words in ("cannot take part", "To be done", "SITE-E014", "SITE-W040", "enough")
    ]
    assert places == sorted(places)


def test_a_group_stands_together() -> None:
    shown = console(examined(GOOD, FAILED, WARNED))
    assert shown.index("overlay") < shown.index("no column")


def test_nothing_that_is_told_is_markup_or_moves_a_cursor() -> None:
    hostile = Finding("data", HOSTILE, "fail", HOSTILE, HOSTILE, HOSTILE)
    examination = Examination(HOSTILE, {"name": HOSTILE}, (hostile,))
    shown, whole = console(examination, width=300), page(examination)
    assert "[red]<script>" in shown
    assert "\x1b" not in shown + whole
    read = Read(whole)
    assert {tag for tag, _ in read.tags} & {"script", "img", "iframe", "object", "form", "a"} == set()
    assert '<script>alert("x")</script>' in read.text
    for tag, attributes in read.tags:
        assert not any(name.startswith("on") or name in ("src", "style") for name in attributes)
        assert tag != "link" or attributes["href"] == "data:,"
    policy = next(attributes["content"] for tag, attributes in read.tags if "http-equiv" in attributes)
    assert str(policy).startswith("default-src 'none'; style-src 'sha256-")


def test_an_error_becomes_a_failure_with_its_code_and_fix() -> None:
    error = DataError("SITE-E012", "may not be read", where="site.yaml data.path", found="0600", fix="chown 10001 FILE")
    (found,) = of_error("data", "file", error)
    assert (found.status, found.code, found.fix) == ("fail", "SITE-E012", "chown 10001 FILE")
    assert found.what == "may not be read — site.yaml data.path — got 0600"


def test_every_problem_of_a_composition_is_a_failure_of_its_own() -> None:
    both = ConfigErrors([ConfigError("SITE-E001", "unknown key"), ConfigError("SITE-E003", "wrong type")])
    assert [found.code for found in of_error("config", "settings", both)] == ["SITE-E001", "SITE-E003"]

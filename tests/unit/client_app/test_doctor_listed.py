"""What the page for hospitals lists of each group is what the doctor looks at, and all of it stands on its page."""

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from client_app.doctor import coordinator, places
from client_app.doctor.groups import GROUPS
from fedfm.findings import Examination, Finding
from fedfm.findings_page import page
from tests import superlink
from tests.unit.client_app.joined import GOOD, admitted, look
from tests.unit.client_app.ward import approve, examined, make, study

GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "when-something-is-wrong.md"
MACHINE = ("config", "compute", "disk", "data", "privacy", "software")


def listed() -> dict[str, set[str]]:
    """Group to its checks, as the guide has them."""
    rows = re.findall(r"(?m)^\| `(\w+)` \|[^|]+\|([^|]+)\|$", GUIDE.read_text())
    return {group: {check.strip() for check in checks.split(",")} for group, checks in rows}


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    """Of a good hospital with an approved study: on a machine of its own, in a container, and at its coordinator."""
    with pytest.MonkeyPatch.context() as patch:
        return [*_on_a_machine(tmp_path_factory.mktemp("machine"), patch), *_joined(tmp_path_factory.mktemp("joined"))]


def _on_a_machine(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Finding]:
    site_file = make(folder / "site")
    named = study(site_file.parent, "rounds=1")
    approve(site_file, named)
    for mark in ((), (site_file,)):  # of a container
        patch.setattr(places, "_CONTAINER", mark)
        yield from examined(site_file, *MACHINE, named=named)


def _joined(folder: Path) -> Iterator[Finding]:
    with superlink.fleet(GOOD) as served:
        hospital = admitted(folder, served)
        yield from look(hospital)
        yield from coordinator.checks(replace(hospital.network, node_key=""), folder)


def test_every_group_is_listed() -> None:
    assert list(listed()) == list(GROUPS)


@pytest.mark.parametrize("group", GROUPS)
def test_each_check_that_is_listed_is_made_and_each_that_is_made_is_listed(group: str, findings: list[Finding]) -> None:
    made = {one.check.partition(",")[0] for one in findings if one.group == group}
    assert made == listed()[group]


class Rows(HTMLParser):
    """The rows of a page's tables: what stands in the first two cells of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        self._cell = tag in ("td", "th", "span") if tag in ("tr", "td", "th", "span") else self._cell

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._cell and self.rows and len(self.rows[-1]) < 2:
            self.rows[-1].append(data)


def test_each_finding_has_its_row_on_the_page(findings: list[Finding]) -> None:
    one = Finding("data", "columns", "fail", "no column", "SITE-E014", "write it")
    shown = Rows(page(Examination("hospital-a", {}, (*findings, one)))).rows
    todo = [each for each in (*findings, one) if each.status in ("fail", "warn")]
    expected = [[each.status.upper(), each.check] for each in (*findings, one)]
    expected += [[each.status.upper(), f"{each.group}: {each.check}"] for each in todo]
    assert sorted(shown) == sorted(expected)

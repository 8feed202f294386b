"""Every error code of the code has one row in ``docs/errors.md``, and no row is without its code."""

import re
from collections import Counter
from pathlib import Path

from fedfm.config.problems import CODES
from server_app.refusals import _FLOWER

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "errors.md"
CODE = re.compile(r"\b[A-Z]{3,8}-[EW]\d{3}\b")
SOURCES = ("fedfm", "server_app", "client_app", "scripts")

ONLY_OF_STUDIES = {"E033", "E034"}  # overrides, options and rules: a site file has none


def codes_in_code() -> set[str]:
    """Codes written out in a module, and those that are put together from a prefix and a number."""
    found = {
        code for part in SOURCES for file in (ROOT / part).rglob("*.py") for code in CODE.findall(file.read_text())
    }
    found |= {f"STUDY-{number}" for number in CODES} | {f"SITE-{number}" for number in set(CODES) - ONLY_OF_STUDIES}
    return found | {f"FLOWER-E{number:03d}" for number in _FLOWER}


def rows() -> list[list[str]]:
    """The cells of every row of the page that begins with a code."""
    lines = PAGE.read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]


def test_the_page_lists_exactly_the_codes_of_the_code() -> None:
    listed = {code for row in rows() for code in CODE.findall(row[0])}
    assert listed == codes_in_code()


def test_a_code_has_one_row_and_a_row_says_everything() -> None:
    with_code = [row for row in rows() if CODE.search(row[0])]
    counted = Counter(code for row in with_code for code in CODE.findall(row[0]))
    assert [code for code, times in counted.items() if times > 1] == []
    assert [row for row in with_code if len(row) != 4 or not all(row)] == []


def test_numbers_put_together_at_run_time_are_all_known() -> None:
    """No module but these two builds a code from parts, so that the scan above misses none."""
    built = {
        file.relative_to(ROOT).as_posix()
        for part in SOURCES
        for file in (ROOT / part).rglob("*.py")
        if re.search(r"""-[EW]\{|\}-\{code\}|-"\s*\+|f"[A-Z]{3,8}-\{""", file.read_text())
    }
    assert built == {"fedfm/config/problems.py", "server_app/refusals.py"}


def test_every_problem_of_a_configuration_has_a_number_and_every_number_a_use() -> None:
    modules = (ROOT / "fedfm" / "config").rglob("*.py")
    used = {number for file in modules for number in re.findall(r"""(?:add|add_at)\(\s*"(E\d{3})""", file.read_text())}
    assert used == set(CODES)


def test_codes_in_other_pages_and_tests_exist() -> None:
    known = codes_in_code()
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "conf").rglob("*.yaml")]
    strangers = {code for page in pages for code in CODE.findall(page.read_text()) if code not in known}
    assert strangers == set()

"""A link in a document leads to a file that is there, and to a heading that is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def documents() -> list[Path]:
    """The project's own pages."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def anchors(page: Path) -> set[str]:
    """Headings as a browser of the repository names them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """Relative links of a page that lead nowhere."""
    wrong = []
    for link in LINK.findall(CODE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", documents(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    assert broken(page) == []


def test_a_link_to_nothing_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Some heading\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](absent.md) [b](other.md) [c](other.md#some-heading) [d](other.md#else) [e](https://x.org) `[f](g.md)`"
    )
    assert broken(page) == ["absent.md", "other.md#else"]


def test_the_main_page_names_files_that_are_there() -> None:
    """The tree under "What is where" in README.md."""
    tree = (ROOT / "README.md").read_text().split("## What is where")[1].split("```")[1]
    folder, missing = ROOT, []
    for line in tree.strip().splitlines():
        if top := re.match(r"(\w+)/", line):
            folder = ROOT / top[1]
            missing += [] if folder.is_dir() else [top[1]]
            continue
        names = re.match(r"\s+((?:[\w./]+(?:\.py|/) ?)+)", line)
        missing += [] if names is None else [name for name in names[1].split() if not (folder / name).exists()]
    assert missing == []

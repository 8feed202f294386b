"""What the documents name is there: tests, settings, options, commands and files."""

import re
import shlex
from pathlib import Path

import pytest
from click import Group
from typer.main import get_command

import client_app.cli
import server_app.cli
from fedfm.config.compose import compose_study
from fedfm.config.settings import settings_of
from fedfm.config.site import Site
from fedfm.config.study import Study

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
FILES = [*PAGES, *sorted((ROOT / "conf").rglob("*.yaml"))]
PATHS = {entry.path for schema in (Study, Site) for entry in settings_of(schema)}
SECTIONS = {path.partition(".")[0] for path in PATHS if "." in path}
GROUPS = sorted(folder.name for folder in (ROOT / "conf").iterdir() if folder.is_dir() and folder.name != "site")

OVERRIDES = (
    re.compile(r'overrides="([^"]*)"'),
    re.compile(r"fedfm-study config ((?:[\w.]+=[^\s`#]+ ?)+)"),
    re.compile(r"fedfm-study simulate \S+ ((?:[\w.]+=[^\s`#]+ ?)+)"),
    re.compile(r"scripts/demo [^`\n]*-- ((?:[\w.]+=[^\s`#]+ ?)+)"),
)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def overrides_in(text: str) -> list[str]:
    """Every list of overrides that a document tells its reader to type."""
    return [found for pattern in OVERRIDES for found in pattern.findall(text)]


@pytest.mark.parametrize("page", FILES, ids=named)
def test_overrides_that_a_reader_may_type_compose(page: Path) -> None:
    for overrides in overrides_in(page.read_text()):
        compose_study(shlex.split(overrides))


def test_documents_have_overrides_to_check() -> None:
    assert len([found for page in FILES for found in overrides_in(page.read_text())]) >= 6


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_settings_that_are_named_exist(page: Path) -> None:
    """In backquotes: ``section.setting``, and ``group=option``."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    words = {word for code in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"[\w.]+(?:=\w+)?", code)}
    dotted = {
        word.partition("=")[0].rstrip(".") for word in words if word.partition(".")[0] in SECTIONS and "." in word
    }
    prefixes = {path.replace("[]", "")[: len(name)] for path in PATHS for name in dotted}
    unknown = {
        name
        for name in dotted
        if name not in prefixes and not re.search(r"\.(py|yaml|md|safetensors|params\.\w+)$", name)
    }
    assert unknown == set()
    chosen = [word.split("=") for word in words if word.partition("=")[0] in GROUPS and "=" in word]
    assert [pair for pair in chosen if not (ROOT / "conf" / pair[0] / f"{pair[1]}.yaml").is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_tests_that_are_named_exist(page: Path) -> None:
    written = {
        name for file in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    assert set(re.findall(r"`(test_\w+)`", page.read_text())) - written == set()


@pytest.mark.parametrize("page", ["privacy.md", "reliability.md"])
def test_every_promise_names_a_test(page: str) -> None:
    """In the tables whose last column is for tests, each row has one."""
    guarded: list[str] = []
    is_guarded = False
    for line in (ROOT / "docs" / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            is_guarded = False
        elif cells[-1] in ("Test", "Found by"):
            is_guarded = True
        elif is_guarded and not line.startswith("|---"):
            guarded.append(cells[-1])
    assert len(guarded) > 25
    assert [cell for cell in guarded if not re.search(r"`test_\w+`", cell)] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_of_the_project_that_are_named_exist(page: Path) -> None:
    paths = re.findall(r"(?<![\w/])((?:fedfm|server_app|client_app|conf|scripts|tests)/[\w./-]*\w)", page.read_text())
    targets = re.findall(r"(?m)^FROM .* AS ([\w-]+)$", (ROOT / "docker" / "Dockerfile").read_text())
    images = {f"fedfm/{target}" for target in targets}  # names of images look like paths
    assert sorted({path for path in paths if not (ROOT / path).exists()} - images) == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_that_are_named_exist(page: Path) -> None:
    groups = {"fedfm-study": get_command(server_app.cli.app), "fedfm-site": get_command(client_app.cli.app)}
    known = {program: set(group.commands) for program, group in groups.items() if isinstance(group, Group)}
    used = re.findall(r"\b(fedfm-(?:study|site)) ([a-z][\w-]*)", page.read_text())
    assert [(program, command) for program, command in used if command not in known[program]] == []

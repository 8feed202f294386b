"""``docs/settings.md`` is what the schemas say, and the defaults of the schemas are those of ``conf/``."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedfm.config.compose import compose_study
from fedfm.config.settings import REQUIRED, settings_of
from fedfm.config.site import Site
from fedfm.config.study import Study
from server_app.cli import app
from server_app.config_command import as_machine_form
from server_app.settings_page import settings_page, type_in_words

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_the_generated_text() -> None:
    assert PAGE.read_text() == settings_page(), "write it again: fedfm-study settings --markdown > docs/settings.md"


def test_the_command_prints_the_page() -> None:
    done = CliRunner().invoke(app, ["settings", "--markdown"])
    assert (done.exit_code, done.stdout) == (0, settings_page())


def test_every_setting_has_one_row_with_a_meaning() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    names = [row.split("`")[1] for row in rows]
    assert sorted(names) == sorted(entry.path for schema in (Study, Site) for entry in settings_of(schema))
    assert [row for row in rows if not row.rstrip(" |").count("|") >= 6] == []


def test_numbers_and_words_of_conf_are_the_defaults_of_the_schema() -> None:
    """Else the page would state a default that nobody gets; texts and lists that are empty there, conf fills."""
    resolved = {entry["setting"]: entry["value"] for entry in as_machine_form(compose_study())["settings"]}
    differing = [
        entry.path
        for entry in settings_of(Study)
        if entry.path in resolved
        and entry.default not in (REQUIRED, "", [], {})
        and resolved[entry.path] != entry.default
    ]
    assert differing == []


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (float | None, "number or empty"),
        (list[str], "list of texts"),
        (dict[str, str], "map to text"),
        (dict[str, dict[str, str]], "map to maps"),
        (dict[str, Any], "map to any value"),
        (bool, "true or false"),
    ],
)
def test_types_are_told_in_words(kind: Any, words: str) -> None:
    assert type_in_words(kind) == words


@pytest.mark.parametrize(("name", "words"), [("privacy.epsilon", "above 0, at most 100"), ("policy.units", "record")])
def test_one_setting_is_explained(name: str, words: str) -> None:
    done = CliRunner().invoke(app, ["settings", name])
    assert done.exit_code == 0
    assert words in done.stdout


def test_an_unknown_setting_is_refused_with_a_proposal() -> None:
    done = CliRunner().invoke(app, ["settings", "policy.max_epsilom"])
    assert done.exit_code == 2
    assert "did you mean policy.max_epsilon" in done.stderr


def test_all_settings_are_shown_on_a_terminal() -> None:
    done = CliRunner().invoke(app, ["settings"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert "privacy.epsilon" in done.stdout
    assert "policy.max_epsilon" in done.stdout

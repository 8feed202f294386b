"""`fedfm-study config`: for people and for machines."""

import io
import json

import pytest
from rich.console import Console

from fedfm.errors import ConfigError, ConfigErrors
from server_app.config_command import explain, show


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def line_of(console: Console, word: str) -> str:
    return next(line for line in text_of(console).splitlines() if line.strip().startswith(word))


def test_people_see_value_unit_and_origin(console: Console) -> None:
    show(["rounds=7", "experiment=icu_notes"], False, console=console)
    assert line_of(console, "rounds").split() == ["rounds", "7", "rounds", "override"]
    assert "conf/experiment/icu_notes.yaml:" in line_of(console, "purpose")
    assert "query, value" in line_of(console, "adapter.modules")
    assert line_of(console, "task.columns").split()[-1] == "default"


def test_machines_get_one_json_object(console: Console) -> None:
    show(["privacy.epsilon=2"], True, console=console)
    found = json.loads(text_of(console))
    assert found["study"]["privacy"]["epsilon"] == 2.0
    assert found["choices"]["model"] == "minilm"
    (epsilon,) = [entry for entry in found["settings"] if entry["setting"] == "privacy.epsilon"]
    assert (epsilon["value"], epsilon["origin"]) == (2.0, "override")


def test_a_wrong_study_prints_nothing(console: Console) -> None:
    with pytest.raises(ConfigErrors):
        show(["rounds=0"], False, console=console)
    assert text_of(console) == ""


def test_explain(console: Console) -> None:
    explain("privacy.delta", console=console)
    assert "at least 1e-12, at most 0.1" in text_of(console)
    explain("task.columns[].name", console=console)
    assert "it must be set" in text_of(console)
    with pytest.raises(ConfigError, match=r"did you mean privacy\.delta"):
        explain("privacy.detla", console=console)

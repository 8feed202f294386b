"""What cannot be made private is refused by its name, with the reason and the nearest choice that can."""

from pathlib import Path

import pytest

from fedfm.config import refused
from fedfm.config.compose import compose_study
from fedfm.config.settings import settings_of
from fedfm.config.study import Study
from fedfm.errors import ConfigErrors

PAGE = Path(__file__).parents[3] / "docs" / "models.md"
TABLES = {"adapter.method": refused.ADAPTERS, "training.optimizer": refused.OPTIMIZERS}
CASES = [(path, word) for path, table in TABLES.items() for word in table]


@pytest.mark.parametrize(("path", "word"), CASES)
def test_each_word_is_refused_with_reason_and_nearest_choice(path: str, word: str) -> None:
    reason, nearest = TABLES[path][word]
    with pytest.raises(ConfigErrors) as found:
        compose_study([f"{path}={word}"])
    (problem,) = found.value.problems
    assert problem.code == "STUDY-E009"
    assert reason in str(problem)
    assert f"choose {nearest}" in str(problem)


@pytest.mark.parametrize(("path", "word"), CASES)
def test_the_nearest_choice_is_allowed_and_the_page_says_the_same(path: str, word: str) -> None:
    reason, nearest = TABLES[path][word]
    (setting,) = [entry for entry in settings_of(Study) if entry.path == path]
    assert nearest in setting.rule["choices"]
    assert word not in setting.rule["choices"]
    assert f"| `{path}: {word}` | {reason} | `{nearest}` |" in PAGE.read_text()


def test_a_long_step_of_adam_is_refused() -> None:
    with pytest.raises(ConfigErrors, match="STUDY-E030") as found:
        compose_study(["training.optimizer=adam"])
    assert "training.learning_rate" in str(found.value)
    assert compose_study(["training.optimizer=adam", "training.learning_rate=0.003"])

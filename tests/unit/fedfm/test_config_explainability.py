"""Lists of words in a study and a site file: what may stand there, and how each mistake is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedfm.config.compose import compose_study, load_site, study_from_json, study_to_json
from fedfm.config.study import Study
from fedfm.errors import ConfigErrors
from tests.unit.fedfm.test_config_site import GOOD, problems_of, write

TABLE = ["model=logistic", "adapter=full", "task=icu_tables"]


def with_settings(*overrides: str, **explainability: object) -> Study:
    tree: dict[str, Any] = json.loads(study_to_json(compose_study(list(overrides)).value))
    tree["explainability"] |= explainability
    return study_from_json(json.dumps(tree))


def refusals(*overrides: str, **explainability: object) -> str:
    with pytest.raises(ConfigErrors) as caught:
        with_settings(*overrides, **explainability)
    return "\n".join(str(problem) for problem in caught.value.problems)


def column() -> str:
    return compose_study(TABLE).value.task.columns[0].name


def test_lists_of_a_text_task_are_taken_as_they_are() -> None:
    asked = with_settings(
        shortcuts={"scanner": ["portable film"], "ward-names_2": ["ward 7", "icu"]},
        swaps={"sex": {"woman": "man", "she": "he"}, "insurance": {"medicaid": ""}},
        vocabulary=["shortness of breath", "fever, chills", "Fever"],
        reference="/data/public.csv",
        action="stop",
    ).explainability
    assert asked.vocabulary[1] == "fever, chills"
    assert asked.swaps["insurance"] == {"medicaid": ""}


@pytest.mark.parametrize(
    ("explainability", "path", "words"),
    [
        ({"shortcuts": {"Scanner": ["a"]}}, "explainability.shortcuts", "no name for a list"),
        ({"shortcuts": {"a b": ["a"]}}, "explainability.shortcuts", "no name for a list"),
        ({"shortcuts": {"a:b": ["a"]}}, "explainability.shortcuts", "no name for a list"),
        ({"swaps": {"": {"a": "b"}}}, "explainability.swaps", "no name for a list"),
        ({"shortcuts": {"a" * 41: ["a"]}}, "explainability.shortcuts", "no name for a list"),
        ({"shortcuts": {"scanner": []}}, "explainability.shortcuts.scanner", "1 to 100 phrases"),
        ({"shortcuts": {"scanner": ["a"] * 101}}, "explainability.shortcuts.scanner", "1 to 100 phrases"),
        ({"shortcuts": {"scanner": [" "]}}, "explainability.shortcuts.scanner", "an empty one"),
        ({"shortcuts": {"scanner": ["a" * 81]}}, "explainability.shortcuts.scanner", "81 characters"),
        ({"shortcuts": {f"a{n}": ["a"] for n in range(51)}}, "explainability.shortcuts", "too many lists"),
        ({"swaps": {f"a{n}": {"a": "b"} for n in range(51)}}, "explainability.swaps", "too many lists"),
        ({"swaps": {"sex": {}}}, "explainability.swaps.sex", "1 to 100 phrases"),
        ({"swaps": {"sex": {"": "man"}}}, "explainability.swaps.sex", "an empty one"),
        ({"swaps": {"sex": {"woman": " "}}}, "explainability.swaps.sex", "an alternative of no use"),
        ({"swaps": {"sex": {"woman": "m" * 81}}}, "explainability.swaps.sex", "an alternative of no use"),
        ({"swaps": {"sex": {"Woman": "woman"}}}, "explainability.swaps.sex", "exchanged for itself"),
        ({"vocabulary": ["fever", "Fever"]}, "explainability.vocabulary", "given twice"),
        ({"vocabulary": ["heart rate", "Heart  rate"]}, "explainability.vocabulary", "given twice"),
        ({"vocabulary": [""]}, "explainability.vocabulary", "an empty one"),
        ({"vocabulary": ["a" * 81]}, "explainability.vocabulary", "81 characters"),
        ({"vocabulary": [f"t{n}" for n in range(5001)]}, "explainability.vocabulary", "too many terms"),
        ({"action": "stop"}, "explainability.action", "no reference"),
        ({"attribution": "none", "reference": "x.csv"}, "explainability.reference", "looks at no reasons"),
        ({"attribution": "none", "action": "stop"}, "explainability.action", "none can be lost"),
    ],
)
def test_what_nothing_could_be_held_against_is_refused(explainability: dict[str, Any], path: str, words: str) -> None:
    told = refusals(**explainability)
    assert path in told
    assert words in told


def test_the_longest_that_may_be_is_taken() -> None:
    asked = with_settings(
        shortcuts={f"a{n}": ["w" * 80] * 100 for n in range(50)}, vocabulary=[f"t{n}" for n in range(5000)]
    )
    assert len(asked.explainability.vocabulary) == 5000


def test_a_table_has_columns_and_no_words() -> None:
    name = column()
    told = with_settings(*TABLE, shortcuts={"ward": [name]}, swaps={"sex": {name: ""}}, vocabulary=[name])
    assert told.explainability.swaps == {"sex": {name: ""}}
    assert "no such column" in refusals(*TABLE, shortcuts={"ward": [f"{name}x"]})
    assert f"did you mean {name}?" in refusals(*TABLE, vocabulary=[f"{name}x"])
    assert "mirrored in its range" in refusals(*TABLE, swaps={"sex": {name: "man"}})
    assert "no such column" in refusals(*TABLE, swaps={"sex": {"woman": ""}})


def test_a_model_that_each_site_standardises_is_not_explained_at_the_coordinator() -> None:
    assert "standardises by itself" in refusals("standardize=site", reference="/data/public.csv")


def test_a_hospital_s_own_lists_are_held_to_the_same(tmp_path: Path) -> None:
    fine = "explanations:\n  shortcuts: {scanner: [portable film]}\n  swaps: {sex: {woman: man}}\n"
    assert load_site(write(tmp_path, GOOD + fine)).explanations.swaps == {"sex": {"woman": "man"}}
    (problem,) = problems_of(write(tmp_path, GOOD + "explanations:\n  shortcuts: {Scanner tag: [portable film]}\n"))
    assert "SITE-E007 no name for a list" in problem
    (problem,) = problems_of(write(tmp_path, GOOD + "explanations:\n  swaps: {sex: {woman: woman}}\n"))
    assert "explanations.swaps.sex" in problem
    table = GOOD.replace("loader: text", "loader: columns\n  columns: {age: alter}").replace("  text: note\n", "")
    (problem,) = problems_of(write(tmp_path, table + "explanations:\n  shortcuts: {ward: [alter]}\n"))
    assert "no such column" in problem
    assert load_site(write(tmp_path, table + "explanations:\n  shortcuts: {ward: [age]}\n")).explanations.shortcuts

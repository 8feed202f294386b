"""The files of ``conf/`` and the code name the same things."""

import re
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from client_app.loss_weights import REWEIGHTINGS
from fedfm.config.compose import load_site
from fedfm.config.settings import settings_of
from fedfm.config.site import Policy
from fedfm.config.study import Study
from server_app.combining.rules import COMBINERS
from server_app.games import CONTRIBUTIONS
from server_app.optimizing import OPTIMIZERS
from server_app.selection import SELECTIONS
from server_app.weighting.rules import RULES

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted(CONF.rglob("*.yaml"))


def stems(group: str) -> set[str]:
    return {file.stem for file in (CONF / group).glob("*.yaml")}


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ("weighting", set(RULES)),
        ("selection", set(SELECTIONS)),
        ("combining", set(COMBINERS)),
        ("optimizing", set(OPTIMIZERS)),
        ("contribution", set(CONTRIBUTIONS) | {"none"}),
        ("reweighting", set(REWEIGHTINGS) | {"none"}),
    ],
)
def test_files_of_a_group_are_the_names_of_its_registry(group: str, names: set[str]) -> None:
    assert stems(group) == names
    for file in (CONF / group).glob("*.yaml"):
        assert yaml.safe_load(file.read_text())["rule"] == file.stem


def test_adapters_are_the_registry_of_the_model() -> None:
    from fedfm.model.adapters import ADAPTERS  # noqa: PLC0415 - imports torch, which the other tests do not need

    assert stems("adapter") == set(ADAPTERS)
    for file in (CONF / "adapter").glob("*.yaml"):
        assert yaml.safe_load(file.read_text())["method"] == file.stem


def test_choices_of_the_schema_are_the_adapters() -> None:
    (method,) = [entry for entry in settings_of(Study) if entry.path == "adapter.method"]
    assert set(method.rule["choices"]) == stems("adapter")


def test_attributions_are_the_registry_of_the_explanations_and_the_choices_of_the_schema() -> None:
    from fedfm.explain.attribution import ATTRIBUTIONS  # noqa: PLC0415 - imports torch

    (attribution,) = [entry for entry in settings_of(Study) if entry.path == "explainability.attribution"]
    assert stems("explainability") == {*ATTRIBUTIONS, "none"} == set(attribution.rule["choices"])
    for file in (CONF / "explainability").glob("*.yaml"):
        assert yaml.safe_load(file.read_text())["attribution"] == file.stem


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONF)))
def test_every_file_says_what_it_is_for_and_names_no_code(file: Path) -> None:
    text = file.read_text()
    assert "_target_" not in text
    assert re.match(r"(# @package _global_\n)?# \w", text)
    assert text.startswith("# @package _global_\n") == (file.parent.name == "experiment")


def test_every_group_of_the_study_has_a_folder_and_every_folder_a_group() -> None:
    defaults = yaml.safe_load((CONF / "study.yaml").read_text())["defaults"]
    groups = {name.removeprefix("optional ") for entry in defaults if isinstance(entry, dict) for name in entry}
    assert groups == {folder.name for folder in CONF.iterdir() if folder.is_dir()} - {"site"}


def test_the_example_for_hospitals_is_valid_and_stays_out_of_the_app() -> None:
    site = load_site(CONF / "site" / "example.yaml")
    assert site.policy == Policy(), "conf/site/policy.yaml says that what is left out has the value that stands there"
    assert "conf/site/**" in (CONF.parent / "pyproject.toml").read_text()


def test_the_policy_for_hospitals_names_every_setting_once_and_no_other() -> None:
    written = yaml.safe_load((CONF / "site" / "policy.yaml").read_text())
    assert set(written) == {entry.path for entry in settings_of(Policy)}


def test_heart_disease_columns_are_those_of_the_protocol() -> None:
    columns = yaml.safe_load((CONF / "task" / "heart_disease.yaml").read_text())["columns"]
    names = "age sex trestbps chol fbs thalach exang oldpeak cp_2 cp_3 cp_4 restecg_1 restecg_2"
    assert [column["name"] for column in columns] == names.split()

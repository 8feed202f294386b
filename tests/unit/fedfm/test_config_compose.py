"""Composition of studies: options, overrides, origins, and every kind of problem."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from fedfm.config.compose import Composed, compose_study
from fedfm.config.settings import REQUIRED, settings_of
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.errors import ConfigErrors

CONF = Path(__file__).parents[3] / "conf"
NUMERIC = ["task=heart_disease", "adapter=full"]
OPTIONS = [
    (folder.name, file.stem)
    for folder in sorted(CONF.iterdir())
    if folder.is_dir() and folder.name != "site"
    for file in sorted(folder.glob("*.yaml"))
]


def partners(group: str, option: str) -> list[str]:
    """Other choices without which an option fits nothing."""
    if group == "contribution" and option != "none":
        return ["contribution.params.reference=/public/reference.csv"]
    if option in ("logistic", "mlp"):
        return NUMERIC
    if option in ("heart_disease", "icu_tables", "icu_tables_brief", "full") and group != "experiment":
        return [*NUMERIC, "model=logistic"]
    of_low_rank = {"ffa_svd": [], "flexlora": ["adapter=lora"], "fedex": ["adapter=lora", "privacy=none"]}
    if group == "combining" and option not in {"linear", *of_low_rank}:
        return ["weighting=uniform", "min_sites=5"]
    return of_low_rank.get(option, [])


def value_at(study: Study, path: str) -> Any:
    value: Any = study
    for name in path.split("."):
        value = getattr(value, name)
    return value


def problems_of(*overrides: str, conf: Path | None = None) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        compose_study(overrides, conf=conf)
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    shutil.copytree(CONF, tmp_path / "conf")
    return tmp_path / "conf"


def change(file: Path, old: str, new: str) -> int:
    """Replace a text that stands once in a file; returns its line."""
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    return text[: text.index(old)].count("\n") + 1


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda word: word)
def test_every_option_composes(group: str, option: str) -> None:
    composed = compose_study([*partners(group, option), f"{group}={option}"])
    assert composed.choices[group] == option


@pytest.mark.parametrize("experiment", [name for group, name in OPTIONS if group == "experiment"])
def test_origins_name_the_line_that_says_the_value(experiment: str) -> None:
    composed = compose_study([f"experiment={experiment}", "seed=7"])
    for path, origin in composed.origins.items():
        if ":" not in origin:
            continue
        name, line = origin.split(":")
        assert path.rpartition(".")[2] in (CONF.parent / name).read_text().splitlines()[int(line) - 1]
        plain = yaml.safe_load((CONF.parent / name).read_text())
        inside = path if name.count("/") == 1 or "experiment" in name else path.partition(".")[2]
        for key in inside.split("."):
            plain = plain[key]
        if path != "task.columns":
            assert plain == value_at(composed.value, path)
    assert composed.origins["seed"] == "override"
    assert composed.origins["model.revision"] == "default"


def test_short_keys_choose_options_and_set_values() -> None:
    composed = compose_study(["model=tiny", "adapter=head", "rounds=3", "privacy.epsilon=2"])
    study = composed.value
    assert (study.model.source, study.adapter.method, study.rounds, study.privacy.epsilon) == ("random", "head", 3, 2.0)
    assert isinstance(study.privacy.epsilon, float)
    assert composed.origins["privacy.epsilon"] == "override"
    assert composed.origins["model.source"] == "conf/model/tiny.yaml:3"


def test_command_line_wins_over_experiment_which_wins_over_study() -> None:
    assert compose_study(["experiment=icu_notes"]).value.rounds != compose_study().value.rounds
    composed = compose_study(["experiment=icu_notes", "model=tiny", "rounds=2"])
    assert (composed.value.rounds, composed.value.model.source) == (2, "random")
    assert composed.value.task.labels == ["survived", "died"]


def test_no_privacy_is_asked_for_by_name() -> None:
    assert compose_study(["privacy=none"]).value.privacy.mechanism == "none"
    assert compose_study(["privacy=none", "evaluation=noisy"]).value.evaluation.release == "noisy"
    assert compose_study(["privacy=none", "privacy.max_grad_norm=null"]).value.privacy.max_grad_norm is None


def test_last_of_two_overrides_wins() -> None:
    assert compose_study(["rounds=2", "rounds=3"]).value.rounds == 3


def test_rule_parameters_can_be_added() -> None:
    composed = compose_study(["selection=fraction", "selection.params.fraction=0.25", "weighting.params.q=2"])
    assert composed.value.selection.params == {"fraction": 0.25}
    assert composed.value.weighting.params == {"q": 2}
    assert composed.origins["weighting.params"] == "override"


def test_a_quoted_text_may_hold_anything() -> None:
    assert compose_study(['purpose="a=b, so: [c]"']).value.purpose == "a=b, so: [c]"
    assert compose_study(["purpose=Find out early", "  "]).value.purpose == "Find out early"


def test_composition_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    compose_study()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("modle=tiny", ["STUDY-E001", "override 'modle=tiny'", "did you mean model?"]),
        ("privacy.epsilom=3", ["STUDY-E001", "'epsilom'", "did you mean epsilon?"]),
        ("epsilon=3", ["STUDY-E001", "did you mean privacy.epsilon?"]),
        ("rounds=three", ["STUDY-E003", "override 'rounds=three' rounds", "got: text 'three'", "a whole number"]),
        ("rounds=2.0", ["STUDY-E003", "a whole number"]),
        ("rounds=true", ["STUDY-E003"]),
        ("rounds.x=2", ["STUDY-E003", "override 'rounds.x=2'"]),
        ("rounds=null", ["STUDY-E003", "got: nothing"]),
        ("name=2026", ["STUDY-E005", 'quotes: "2026"']),
        ("name=Not_Allowed", ["STUDY-E007", "override 'name=Not_Allowed'"]),
        ("rounds=0", ["STUDY-E008", "at least 1, at most 10000 rounds", "got: a whole number 0"]),
        ("privacy.epsilon=0", ["STUDY-E008", "above 0, at most 100"]),
        ("privacy.epsilon=nan", ["STUDY-E008", "a finite number"]),
        ("training.learning_rate=inf", ["STUDY-E008"]),
        ("model.hidden=[0]", ["STUDY-E008", "model.hidden.0"]),
        ("privacy.unit=patients", ["STUDY-E009", "patient, record", "did you mean patient?"]),
        ("task.labels=[a]", ["STUDY-E030", "two classes"]),
        ("task.labels=[a,a]", ["STUDY-E030", "given twice"]),
        ("task.labels=[a,1]", ["STUDY-E003", "task.labels.1"]),
        ("task.labels=a", ["STUDY-E003", "must be a list"]),
        ("task.labels=[a,b,'']", ["STUDY-E030", "an empty name"]),
        ("task.labels=[recovered,same,deteriorated]", ["STUDY-E030", "only a two-class task"]),
        ("task.positive=recoverd", ["STUDY-E030", "did you mean recovered?"]),
        ("task.columns=[{name: a, low: 1, high: 2}]", ["STUDY-E030", "no columns"]),
        ("task.inputs=columns", ["STUDY-E030", "needs columns"]),
        ("model=logistic", ["STUDY-E030", "a tabular backbone reads columns"]),
        ("adapter.method=adalora", ["STUDY-E009", "head, lora, ffa_lora"]),
        ("model.sha256=53aa", ["STUDY-E030", "64 digits"]),
        ("model.location=''", ["STUDY-E030", "needs a location"]),
        ("model.source=hub", ["STUDY-E030", "40 hexadecimal digits"]),
        ("model.source=none", ["STUDY-E030", "a bert backbone with source none"]),
        ("model.hidden=[4]", ["STUDY-E030", "for tabular models"]),
        ("privacy.max_grad_norm=null", ["STUDY-E030", "needs a clipping norm"]),
        ("evaluation.bins=5", ["STUDY-E030", "write 6"]),
        ("evaluation.group_bins=3", ["STUDY-E030", "evaluation.group_bins", "write 4"]),
        ("task.intersections=[sex*ageband]", ["STUDY-E030", "'ageband' is not in task.groups", "age_band?"]),
        ("task.intersections=[sex]", ["STUDY-E030", "not an intersection"]),
        ("task.intersections=[sex*sex]", ["STUDY-E030", "not an intersection"]),
        ("task.intersections=['']", ["STUDY-E030", "is not in task.groups"]),
        ("task.intersections=[sex*age_band,age_band*sex]", ["STUDY-E030", "given twice"]),
        ("task.groups=[sex,'a*b']", ["STUDY-E030", "a name with * or ="]),
        ("seed=${oc.env:FEDFM_ABSENT}", ["STUDY-E031", "override 'seed=${oc.env:FEDFM_ABSENT}'"]),
        (r"purpose=\${seed}", ["STUDY-E031", "no interpolation"]),
        ("purpose=a=b", ["STUDY-E033", "override 'purpose=a=b'", """'purpose="a=b"'"""]),
        ("purpose=Why, then", ["STUDY-E033", """'purpose="Why, then"'"""]),
        ("rounds", ["STUDY-E033", "rounds=value"]),
        ("~rounds", ["STUDY-E033"]),
        ("hydra.run.dir=/tmp/x", ["STUDY-E033"]),
        ("model@task=tiny", ["STUDY-E033"]),
        ("task.columns.9.low=1", ["STUDY-E003", "must be a list", "override 'task.columns.9.low=1'"]),
        ("privacy=pateint", ["STUDY-E034", "allowed: none, patient, record", "did you mean patient?"]),
        ("privacy=3", ["STUDY-E034", "privacy.setting=value"]),
        ("task=null", ["STUDY-E034"]),
        ("modl/x=tiny", ["STUDY-E034", "unknown group"]),
        ("weighting.rule=unifrom", ["STUDY-E034", "cgsv, cohort, dro", "did you mean uniform?"]),
        ("reweighting.rule=kamiran_calders", ["STUDY-E030", "attribute, cap, noise_multiplier"]),
        ("reweighting.rule=group_dro", ["STUDY-E030", "attribute, step, cap"]),
        ("training.proximal=0.25", ["STUDY-E030", "at most 1", "training.proximal"]),
    ],
)
def test_one_wrong_override_is_one_clear_problem(override: str, parts: list[str]) -> None:
    found = problems_of(override)
    matching = [problem for problem in found if problem.startswith(parts[0])]
    assert any(all(part in problem for part in parts) for problem in matching), found


def test_an_override_outside_a_list_is_named() -> None:
    (problem,) = problems_of("experiment=heart_disease", "task.columns.99.low=1")
    assert problem.startswith("STUDY-E033")
    assert "override 'task.columns.99.low=1'" in problem


def test_column_ranges_must_rise() -> None:
    (problem,) = problems_of("experiment=heart_disease", "task.columns.0.low=99")
    assert problem.startswith("STUDY-E030 low of 'age' must be below high — override 'task.columns.0.low=99'")


def test_reweighting_parameters_are_checked() -> None:
    assert compose_study(["reweighting=kamiran_calders"]).value.reweighting.params["attribute"] == "sex"
    found = problems_of("reweighting=kamiran_calders", "reweighting.params={attribute: ward, cap: 0.5}")
    assert [problem.split(" ")[0] for problem in found] == ["STUDY-E030", "STUDY-E008"]
    assert "sex, age_band" in found[0]
    found = problems_of("reweighting=group_dro", "reweighting.params={attribute: sex, step: -0.1, cap: true}")
    assert [problem.split(" ")[0] for problem in found] == ["STUDY-E008", "STUDY-E008"]


def test_all_problems_come_at_once() -> None:
    found = problems_of("modle=tiny", "rounds=0", "privacy=pateint", "purpose=a=b", "evaluation.every=x")
    assert sorted(problem.split(" ")[0][-4:] for problem in found) == ["E001", "E003", "E008", "E033", "E034"]
    with pytest.raises(ConfigErrors, match=r"^STUDY-E001.*\nSTUDY-E008"):
        compose_study(["modle=tiny", "rounds=0"])


def test_cross_checks_go_on_beside_a_broken_value() -> None:
    found = problems_of("rounds=0", "evaluation.bins=5", "task.positive=x")
    assert sorted(problem.split(" ")[0] for problem in found) == ["STUDY-E008", "STUDY-E030", "STUDY-E030"]


def test_problems_of_files_name_file_and_line(conf: Path) -> None:
    line = change(conf / "study.yaml", "rounds: 5", "roundz: 5")
    unit = change(conf / "privacy" / "patient.yaml", "unit: patient", "unit: no")
    found = problems_of(conf=conf)
    assert any(
        "STUDY-E001" in text and f"conf/study.yaml:{line} roundz" in text and "mean rounds?" in text for text in found
    )
    assert any(
        text.startswith("STUDY-E005") and f"conf/privacy/patient.yaml:{unit} privacy.unit" in text and '"no"' in text
        for text in found
    )
    assert len(found) == 2


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("rounds: 5", "rounds:\n\t- 5", "STUDY-E004", "has a TAB"),
        ("rounds: 5", "rounds: [5", "STUDY-E004", "not readable as YAML"),
        ("rounds: 5", "rounds: 5\nrounds: 6", "STUDY-E006", "is given twice"),
        ("rounds: 5", "rounds: 012", "STUDY-E005", "YAML reads 012 as 10"),
        ("round_minutes: 60", "round_minutes: 1:30", "STUDY-E005", "YAML reads 1:30 as 90"),
        ("rounds: 5", "rounds: 5\n5: x", "STUDY-E001", "unknown key '5'"),
        ("rounds: 5", "weighting: {params: {q: !!binary aGk=}}", "STUDY-E003", "cannot hold a bytes"),
    ],
)
def test_traps_of_yaml(conf: Path, old: str, new: str, code: str, words: str) -> None:
    change(conf / "study.yaml", old, new)
    (problem,) = problems_of(conf=conf)
    assert problem.startswith(code)
    assert words in problem
    assert re.search(r"conf/study.yaml:[23]\d", problem)


def test_broken_yaml_of_an_option_names_its_file(conf: Path) -> None:
    line = change(conf / "training" / "default.yaml", "momentum: 0.9", "momentum: 0.9\nmomentum: 0.8") + 1
    (problem,) = problems_of(conf=conf)
    assert problem.startswith("STUDY-E006")
    assert f"conf/training/default.yaml:{line} momentum" in problem


def test_missing_required_setting_names_the_file_that_should_have_it(conf: Path) -> None:
    change(conf / "weighting" / "power.yaml", "rule: power", "# no rule")
    (problem,) = problems_of(conf=conf)
    assert problem.startswith("STUDY-E002 `weighting.rule` is required — conf/weighting/power.yaml")


def test_an_unknown_default_option_is_reported(conf: Path) -> None:
    change(conf / "study.yaml", "- weighting: power", "- weighting: pwoer")
    (problem,) = problems_of(conf=conf)
    assert problem.startswith("STUDY-E034")
    assert "weighting/pwoer" in problem


def test_missing_conf_folder(tmp_path: Path) -> None:
    (problem,) = problems_of(conf=tmp_path)
    assert problem.startswith("STUDY-E032")
    assert "study.yaml" in problem


def test_a_new_option_file_is_an_option_at_once(conf: Path) -> None:
    (conf / "weighting" / "mine.yaml").write_text("rule: mine\nparams: {}\n")
    composed: Composed = compose_study(["weighting=mine"], conf=conf)
    assert composed.value.weighting.rule == "mine"


@pytest.mark.parametrize("schema", [Study, Site])
def test_every_setting_says_what_it_means(schema: Any) -> None:
    for entry in settings_of(schema):
        assert len(entry.rule["meaning"].split()) >= 2, entry.path
        if entry.rule["choices"] and entry.default not in (REQUIRED, []):
            assert set([entry.default] if isinstance(entry.default, str) else entry.default) <= set(
                entry.rule["choices"]
            )

"""Parameters of weighting rules are refused when a study is composed, with the reason."""

import inspect
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from fedfm.config.coherence.weighting import PARAMETERS
from fedfm.config.compose import compose_study, study_from_json, study_to_json
from fedfm.errors import ConfigErrors
from fedfm.signals import asks_losses, audit_attribute
from server_app.aggregation import Aggregation
from server_app.weighting.rules import RULES

CONF = Path(__file__).parents[3] / "conf" / "weighting"


def problems_of(*overrides: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        compose_study(overrides)
    return [str(error) for error in caught.value.problems]


@pytest.mark.parametrize("rule", RULES)
def test_parameters_are_those_of_the_function_and_of_its_file(rule: str) -> None:
    arguments = inspect.signature(RULES[rule]).parameters.values()
    named = {argument.name for argument in arguments if argument.kind is inspect.Parameter.KEYWORD_ONLY}
    assert named == set(PARAMETERS[rule])
    assert named == set(yaml.safe_load((CONF / f"{rule}.yaml").read_text())["params"])


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_composes_and_is_built(rule: str) -> None:
    study = compose_study([f"weighting={rule}"]).value
    assert study_from_json(study_to_json(study)) == study
    Aggregation(study)


def test_power_is_the_default_and_asks_for_losses_only() -> None:
    study = compose_study().value
    assert (study.weighting.rule, study.weighting.params) == ("power", {"q": 1.0})
    silent = compose_study(["evaluation.audit_loss=false"]).value
    assert asks_losses(silent)
    assert not audit_attribute(silent)
    assert not asks_losses(compose_study(["evaluation.audit_loss=false", "weighting=cohort"]).value)
    assert audit_attribute(compose_study(["weighting=fairfed"]).value) == "sex"


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["weighting.params.q=-0.1"], ["STUDY-E008", "weighting.params.q", "at least 0"]),
        (["weighting.params.q=101"], ["STUDY-E008", "at most 100"]),
        (["weighting.params.q=true"], ["STUDY-E003", "must be a number", "true or false"]),
        (["weighting.params.q=one"], ["STUDY-E003", "text 'one'"]),
        (["weighting.params.q=null"], ["STUDY-E003", "nothing"]),
        (["weighting.params.p=1"], ["STUDY-E001", "unknown parameter 'p'", "allowed: q"]),
        (["weighting.rule=cohort"], ["STUDY-E001", "unknown parameter 'q'", "the rule has no parameters"]),
        (["weighting=tilt", "weighting.params.t=-1"], ["STUDY-E008"]),
        (["weighting=propfair", "weighting.params.ceiling=2"], ["STUDY-E008", "above 2"]),
        (["weighting=dro", "weighting.params.gamma=-1"], ["STUDY-E008"]),
        (["weighting=dro", "weighting.params.form=projection"], ["STUDY-E009", "did you mean projected?"]),
        (["weighting=dro", "weighting.params.form=3"], ["STUDY-E003", "must be text"]),
        (["weighting=fairfed", "weighting.params.beta=-1"], ["STUDY-E008"]),
        (["weighting=fairfed", "weighting.params.attribute=ward"], ["STUDY-E030", "allowed: sex, age_band"]),
        (["weighting=fairfed", "task.groups=[]"], ["STUDY-E030", "this task has no groups"]),
        (
            ["weighting=fairfed", "task=medical_abstracts", "task.groups=[sex]"],
            ["STUDY-E030", "only a two-class task", "5 labels", "choose weighting=power"],
        ),
        (["weighting=mgda", "weighting.params.eps=1.5"], ["STUDY-E008", "at most 1"]),
        (["weighting=cgsv", "weighting.params.alpha=1"], ["STUDY-E008", "below 1"]),
        (["weighting=fedfv", "weighting.params.alpha=-0.1"], ["STUDY-E008"]),
        (["weighting=fednova", "weighting.params.momentum=1"], ["STUDY-E008", "below 1"]),
        (
            ["weighting=fednova", "weighting.params.momentum=0.5"],
            ["STUDY-E030", "which is sgd", "set weighting.params.momentum=0.9"],
        ),
        (
            ["weighting=fednova", "training.optimizer=adam", "training.learning_rate=0.01"],
            ["STUDY-E030", "which is adam", "set weighting.params.momentum=0"],
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(overrides: list[str], parts: list[str]) -> None:
    found = problems_of(*overrides)
    assert len(found) == 1
    assert all(part in found[0] for part in parts), found


@pytest.mark.parametrize("overrides", [["training.momentum=0.5"], ["training.momentum=0"]])
def test_fednova_takes_the_momentum_of_the_training(overrides: list[str]) -> None:
    study = compose_study(["weighting=fednova", *overrides]).value
    assert study.weighting.params["momentum"] == study.training.momentum


@pytest.mark.parametrize(
    ("params", "code"), [({"t": -1}, "STUDY-E008"), ({}, "STUDY-E002 `weighting.params.t` is required")]
)
def test_a_received_study_is_refused_for_its_parameters_too(params: dict[str, float], code: str) -> None:
    study = compose_study(["weighting=tilt"]).value
    study.weighting.params = params
    with pytest.raises(ConfigErrors, match=code):
        study_from_json(study_to_json(study))

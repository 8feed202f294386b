"""Combiners and optimisers that do not fit the study, or whose parameters are wrong, are refused with the reason."""

import inspect
from typing import Any

import numpy as np
import pytest

from fedfm.config.coherence.combining import COMBINING, OPTIMIZING
from fedfm.config.compose import compose_study, study_from_json, study_to_json
from fedfm.errors import ConfigErrors
from server_app.combining.rules import COMBINERS
from server_app.optimizing import OPTIMIZERS
from server_app.weighting.heard import Heard, Signal, SiteReport
from server_app.weighting.rules import RULES
from tests.unit.server_app.test_combining_robust import received

ROBUST = ("trimmed_mean", "median", "krum", "multi_krum")


def problems_of(*overrides: str) -> str:
    with pytest.raises(ConfigErrors) as caught:
        compose_study(overrides)
    return str(caught.value)


def test_every_combiner_and_optimiser_has_its_parameters_checked() -> None:
    for known, registry in ((COMBINING, COMBINERS), (OPTIMIZING, OPTIMIZERS)):
        assert {rule: set(parameters) for rule, parameters in known.items()} == {
            rule: {
                name
                for name, argument in inspect.signature(function).parameters.items()
                if argument.kind is inspect.Parameter.KEYWORD_ONLY
            }
            for rule, function in registry.items()
        }


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("combining.params.share=0.2", ["STUDY-E001", "unknown parameter 'share'", "the rule has no parameters"]),
        ("combining.rule=trimmed_mean", ["STUDY-E002", "combining.params.share"]),
        ("combining=trimmed_mean combining.params.share=0.5", ["STUDY-E008", "at least 0.001, below 0.5"]),
        ("combining=trimmed_mean combining.params.share=0", ["STUDY-E008"]),
        ("combining=trimmed_mean combining.params.share=true", ["STUDY-E003", "must be a number"]),
        ("combining=krum combining.params.faulty=1.5", ["STUDY-E003", "must be a whole number"]),
        ("combining=krum combining.params.faulty=0", ["STUDY-E008", "at least 1"]),
        ("combining=multi_krum combining.params.chosen=two", ["STUDY-E003", "got: text 'two'"]),
        ("combining=norm_clipping combining.params.factor=0", ["STUDY-E008", "above 0, at most 100"]),
        ("combining=norm_clipping combining.params.factr=2", ["STUDY-E001", "did you mean factor?"]),
        ("optimizing=momentum optimizing.params.momentum=1", ["STUDY-E008", "at least 0, below 1"]),
        ("optimizing=adam optimizing.params.tau=0", ["STUDY-E008", "optimizing.params.tau", "above 0"]),
        ("optimizing=yogi optimizing.params.beta2=1", ["STUDY-E008", "optimizing.params.beta2"]),
        ("optimizing=yogi optimizing.params.learning_rate=-1", ["STUDY-E008"]),
        ("optimizing.params.x=1", ["STUDY-E001", "optimizing.params"]),
    ],
)
def test_parameters_are_checked_for_name_type_and_range(override: str, parts: list[str]) -> None:
    found = problems_of("weighting=uniform", "min_sites=5", *override.split())
    for part in parts:
        assert part in found


@pytest.mark.parametrize("combiner", ROBUST)
def test_weights_are_not_lost_silently(combiner: str) -> None:
    found = problems_of(f"combining={combiner}", "min_sites=5", "weighting=cohort")
    assert "weights of weighting=cohort would be lost" in found
    assert "set weighting=uniform" in found
    study = compose_study([f"combining={combiner}", "min_sites=5", "weighting=uniform"]).value
    assert study_from_json(study_to_json(study)) == study
    with pytest.raises(ConfigErrors, match="would be lost"):  # a hospital refuses it, too
        study_from_json(study_to_json(study).replace('"uniform"', '"cohort"'))


@pytest.mark.parametrize("weighting", RULES)
def test_combiners_that_weigh_go_with_every_weighting_but_one(weighting: str) -> None:
    compose_study([f"weighting={weighting}", "combining=linear"])
    clipped = [f"weighting={weighting}", "combining=norm_clipping", "min_sites=3"]
    if weighting == "fedfv":
        assert "the step would be longer, not shorter" in problems_of(*clipped)
    else:
        compose_study(clipped)


def test_fedfv_and_clipping_together_would_lengthen_the_step_many_times() -> None:
    """Why they are refused: honest updates are nearly one, and one site sends the opposite, five times as long."""
    chance = np.random.default_rng(1)
    one = chance.normal(size=50)
    rows = np.array([*(one + 0.1 * chance.normal(size=(3, 50))), -5 * one])
    reports = [SiteReport(name, 100, loss=Signal(0.8 - 0.1 * place, 0.0)) for place, name in enumerate("abcd")]
    weights = RULES["fedfv"](Heard(reports, rows @ rows.T), alpha=0.1).weights
    plain, clipped = float(np.linalg.norm(rows.mean(axis=0))), np.array([1, 1, 1, 1.5 / 5])
    assert np.linalg.norm(weights @ rows) == pytest.approx(plain)
    assert np.linalg.norm((weights * clipped) @ rows) > 3 * plain


def test_a_closed_list_has_as_many_sites_as_the_study_waits_for() -> None:
    compose_study(["sites=[a,b,c]", "min_sites=3"])
    found = problems_of("sites=[a,b,c]", "min_sites=4")
    assert "STUDY-E030" in found
    assert "at most 3" in found


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("contribution.params.reference=", ["STUDY-E030", "needs a public reference set"]),
        ("contribution.params.reference=3", ["STUDY-E003", "contribution.params.reference"]),
        ("contribution.params.permutations=0", ["STUDY-E008", "at least 1, at most 100000"]),
        ("contribution.params.permutations=1.5", ["STUDY-E003", "must be a whole number"]),
        ("contribution.params.permutatons=5", ["STUDY-E001", "did you mean permutations?"]),
        ("contribution.rule=leave_one_out", ["STUDY-E001", "'permutations'", "allowed: reference"]),
    ],
)
def test_parameters_of_contributions_are_checked_too(override: str, parts: list[str]) -> None:
    found = problems_of("contribution=shapley", "contribution.params.reference=/public/set.csv", override)
    assert found.count("\n") == 0
    assert all(part in found for part in parts), found


@pytest.mark.parametrize("adapter", ["lora", "dora"])
def test_factors_are_not_combined_entry_by_entry(adapter: str) -> None:
    partners = ["min_sites=5", "weighting=uniform", f"adapter={adapter}"]
    for combiner in ("median", "trimmed_mean"):
        assert "their product is none of theirs" in problems_of(*partners, f"combining={combiner}")
    compose_study([*partners, "combining=krum"])


@pytest.mark.parametrize(
    ("combiner", "params", "fewest"),
    [
        ("median", {}, 3),
        ("norm_clipping", {"factor": 1.5}, 3),
        ("trimmed_mean", {"share": 0.2}, 5),
        ("trimmed_mean", {"share": 0.07}, 15),
        ("trimmed_mean", {"share": 0.4}, 3),
        ("trimmed_mean", {"share": 0.4999999999}, 3),
        ("krum", {"faulty": 1}, 5),
        ("krum", {"faulty": 3}, 9),
        ("multi_krum", {"faulty": 1, "chosen": 4}, 5),
        ("multi_krum", {"faulty": 1, "chosen": 7}, 8),
    ],
)
def test_the_fewest_sites_of_the_study_are_those_the_combiner_needs(
    combiner: str, params: dict[str, Any], fewest: int
) -> None:
    words = [f"combining.params.{name}={value}" for name, value in params.items()]
    study = ["weighting=uniform", f"combining={combiner}", *words]
    compose_study([*study, f"min_sites={fewest}"])
    assert f"at least {fewest}" in problems_of(*study, f"min_sites={fewest - 1}")
    rows = np.random.default_rng(1).normal(size=(fewest, 2)).astype(np.float32)
    with received(rows) as asked:
        COMBINERS[combiner](asked, **params)


def test_an_unknown_combiner_or_optimiser_is_named_once() -> None:
    found = problems_of("combining.rule=meedian", "optimizing.rule=adamm")
    assert found.count("STUDY-E034") == 2
    assert found.count("\n") == 1

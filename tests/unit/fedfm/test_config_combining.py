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


@pytest.mark.parametrize("weighting", ["cohort", "uniform"])
def test_combiners_that_weigh_go_with_every_weighting(weighting: str) -> None:
    compose_study([f"weighting={weighting}", "combining=norm_clipping", "min_sites=3"])
    compose_study([f"weighting={weighting}", "combining=linear"])


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

"""What makes no sense beside a combiner of low-rank products is refused when the study is composed, with the reason."""

import pytest

from fedfm.config.coherence.low_rank import OF_GRAM, check_low_rank
from fedfm.config.compose import compose_study
from fedfm.config.problems import Place, Problems
from fedfm.config.study import Rule, Study
from fedfm.errors import ConfigErrors

FITTING = {
    "ffa_svd": ["adapter=ffa_lora"],
    "flexlora": ["adapter=lora"],
    "fedex": ["adapter=lora", "privacy=none"],
}


def composed(rule: str, *overrides: str) -> Study:
    study: Study = compose_study([f"combining={rule}", *FITTING[rule], *overrides]).value
    return study


@pytest.mark.parametrize("rule", FITTING)
def test_each_goes_with_its_adapter(rule: str) -> None:
    assert composed(rule).combining.rule == rule


@pytest.mark.parametrize(
    ("rule", "override", "reason"),
    [
        ("ffa_svd", "adapter=lora", "averages the products of ffa_lora"),
        ("ffa_svd", "adapter=head", "averages the products of ffa_lora"),
        ("flexlora", "adapter=ffa_lora", "averages the products of lora"),
        ("flexlora", "adapter=dora", "averages the products of lora"),
        ("fedex", "adapter=ffa_lora", "averages the products of lora"),
        ("fedex", "privacy=patient", "more noise than that of averaged factors"),
        *[(rule, "personal=ditto", "another basis") for rule in FITTING],
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(rule: str, override: str, reason: str) -> None:
    with pytest.raises(ConfigErrors, match=f"STUDY-E030.*{reason}.*fix: choose"):
        composed(rule, override)


def problems_of(study: Study) -> list[str]:
    problems = Problems("STUDY", Place)
    check_low_rank(study, problems)
    return [str(error) for error in problems.errors]


@pytest.mark.parametrize("rule", FITTING)
def test_moments_have_no_meaning_after_a_change_of_basis(rule: str) -> None:
    study = composed(rule)
    study.optimizing = Rule("adam")
    (found,) = problems_of(study)
    assert "moments of earlier rounds mean nothing" in found


@pytest.mark.parametrize("weighting", OF_GRAM)
def test_inner_products_are_refused_where_ranks_may_differ_and_nowhere_else(weighting: str) -> None:
    for rule in FITTING:
        study = composed(rule)
        study.weighting = Rule(weighting)
        assert len(problems_of(study)) == (rule == "flexlora")


def test_other_combiners_are_none_of_its_business() -> None:
    study: Study = compose_study(["personal=ditto", "adapter=lora"]).value
    study.optimizing = Rule("adam")
    assert problems_of(study) == []

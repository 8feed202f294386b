"""Combiners of low-rank products, and what makes no sense beside them."""

from fedfm.config.problems import Problems
from fedfm.config.study import Study

_ADAPTER_OF = {"ffa_svd": "ffa_lora", "flexlora": "lora", "fedex": "lora"}
"""Combining rule to the only adapter whose products it averages."""

OF_GRAM = ("mgda", "fedfv", "cgsv")
"""Weighting rules that look at inner products of updates; ``fedfm.signals`` says so, too."""


def check_low_rank(study: Study, problems: Problems) -> None:
    """Add what does not fit a combiner of low-rank products."""
    rule = study.combining.rule
    if rule not in _ADAPTER_OF:
        return
    method, wanted = study.adapter.method, _ADAPTER_OF[rule]
    if method != wanted:
        fix = f"choose adapter={wanted}, or combining=linear"
        what = f"{rule} averages the products of {wanted} adapters"
        problems.add("E030", what, path="combining.rule", found=f"adapter.method={method}", allowed=wanted, fix=fix)
    if study.optimizing.rule != "none":
        what = f"{rule} gives the factors another basis in each round, in which moments of earlier rounds mean nothing"
        found, fix = study.optimizing.rule, "choose optimizing=none, or combining=linear"
        problems.add("E030", what, path="optimizing.rule", found=found, allowed="none", fix=fix)
    if study.personal.method != "none":
        what = f"a personal model cannot be pulled to factors that {rule} gives another basis in each round"
        found, fix = study.personal.method, "choose personal=none, or combining=linear"
        problems.add("E030", what, path="personal.method", found=found, allowed="none", fix=fix)
    _of_one_rule(study, problems)


def _of_one_rule(study: Study, problems: Problems) -> None:
    rule, weighting = study.combining.rule, study.weighting.rule
    if rule == "fedex" and study.privacy.mechanism != "none":
        what = (
            "fedex under privacy would average products of noise, which is more noise than that of averaged factors, "
            "and gather it in the frozen weights"
        )
        fix = "choose adapter=ffa_lora, with combining=ffa_svd or linear"
        problems.add("E030", what, path="combining.rule", found="privacy.mechanism=gaussian", allowed="none", fix=fix)
    if rule == "flexlora" and weighting in OF_GRAM:
        what = (
            f"{weighting} compares the directions of updates, and a site of smaller rank sends minus what lies beyond "
            "its rank, which is no direction of training"
        )
        fix = "choose another weighting, or adapter=ffa_lora combining=ffa_svd"
        problems.add("E030", what, path="weighting.rule", found=weighting, fix=fix)

"""Where a contribution report can be had: updates that add up, and a reference set that the coordinator can judge."""

from collections.abc import Mapping

from fedfm.config.coherence.parameters import Number, Word, check_parameters
from fedfm.config.problems import Problems, shown
from fedfm.config.study import Study

CONTRIBUTION: Mapping[str, Mapping[str, Number | Word]] = {
    "none": {},
    "leave_one_out": {"reference": Word()},
    "shapley": {"reference": Word(), "permutations": Number(1, 100_000, is_whole=True)},
}
"""Contribution rule to its parameters; all must be written. The names are those of ``server_app.contribution``."""

WEIGHTED_SUMS = ("linear", "norm_clipping", "krum", "multi_krum")
"""Combining rules whose result is a weighted sum of the sites' updates."""


def check_contribution(study: Study, problems: Problems) -> None:
    """Add what keeps the contributions of sites from being measured."""
    rule, path, params = study.contribution.rule, "contribution.params", study.contribution.params
    if rule not in CONTRIBUTION:  # named by check_rules
        return
    check_parameters(params, CONTRIBUTION[rule], path, problems)
    if rule == "none":
        return
    if params.get("reference") == "":
        what, fix = "a contribution report needs a public reference set", f"set {path}.reference=/path/of/the/file.csv"
        problems.add("E030", what, path=f"{path}.reference", found=shown(""), fix=fix)
    combining, optimizing = study.combining.rule, study.optimizing.rule
    if combining not in WEIGHTED_SUMS:
        what = f"what combining={combining} makes is no weighted sum of updates, so that no site's share in it is known"
        problems.add("E030", what, path="contribution.rule", allowed=f"combining={' or '.join(WEIGHTED_SUMS)}")
    if optimizing != "none":
        what = f"optimizing={optimizing} also steps by earlier rounds, which no site's update of this round has brought"
        problems.add("E030", what, path="contribution.rule", allowed="optimizing=none")
    if study.standardize.method == "site":
        what = "the coordinator cannot judge a model whose inputs each site standardises by itself"
        problems.add("E030", what, path="contribution.rule", found="standardize=site", fix="choose standardize=global")

"""Where a contribution report can be had: updates that add up, and a reference set that the coordinator can judge."""

from fedfm.config.problems import Problems, shown
from fedfm.config.study import Study

METHODS = ("leave_one_out", "shapley")
"""Contribution rules that measure something; a name beyond these is another check's."""

WEIGHTED_SUMS = ("linear", "norm_clipping", "krum", "multi_krum")
"""Combining rules whose result is a weighted sum of the sites' updates."""

_PERMUTATIONS = (1, 100_000)


def check_contribution(study: Study, problems: Problems) -> None:
    """Add what keeps the contributions of sites from being measured."""
    if study.contribution.rule not in METHODS:
        return
    _reference(study, problems)
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


def _reference(study: Study, problems: Problems) -> None:
    path, params = "contribution.params", study.contribution.params
    reference = params.get("reference")
    if not isinstance(reference, str) or not reference:
        what, fix = "a contribution report needs a public reference set", f"set {path}.reference=/path/of/the/file.csv"
        problems.add("E030", what, path=f"{path}.reference", found=shown(reference), fix=fix)
    count, (low, high) = params.get("permutations", 1), _PERMUTATIONS
    if isinstance(count, bool) or not isinstance(count, int) or not low <= count <= high:
        allowed = f"a whole number, {low} to {high}"
        problems.add("E008", "is outside its range", path=f"{path}.permutations", found=shown(count), allowed=allowed)

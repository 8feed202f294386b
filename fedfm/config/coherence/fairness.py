"""Limits of the study's fairness: names that exist, in ranges, of gaps that are counted."""

from fedfm.config.problems import Problems, did_you_mean, shown
from fedfm.config.study import Study

GROUP_GAPS = ("demographic_parity", "equal_opportunity", "equalized_odds", "accuracy")
"""Differences between the groups of an attribute."""

LIMITS = (*GROUP_GAPS, "worst_site")


def check_fairness(study: Study, problems: Problems) -> None:
    """Add limits that nothing is ever judged by, and those outside their range."""
    for name, limit in study.fairness.limits.items():
        path = f"fairness.limits.{name}"
        if name not in LIMITS:
            fix = did_you_mean(name, LIMITS)
            problems.add("E030", f"no gap is named {name!a}", path=path, allowed=", ".join(LIMITS), fix=fix)
            continue
        if not 0 <= limit <= 1:
            problems.add("E008", "is outside its range", path=path, found=shown(limit), allowed="0 to 1")
        if name in GROUP_GAPS:
            _counted(study, name, path, problems)


def _counted(study: Study, name: str, path: str, problems: Problems) -> None:
    if not (study.task.groups and study.evaluation.groups):
        found = "evaluation.groups is off" if study.task.groups else "task.groups is empty"
        what = f"{name} is a gap between groups, and nobody counts by groups"
        problems.add("E030", what, path=path, found=found, fix="leave the limit out, or name groups")
    elif name != "accuracy" and len(study.task.labels) > 2:
        what, found = f"{name} is of two classes", f"{len(study.task.labels)} classes"
        problems.add("E030", what, path=path, found=found, allowed="accuracy, worst_site")

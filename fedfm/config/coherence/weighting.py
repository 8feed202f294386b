"""What a weighting rule's parameters may be, and what of a study it does not fit."""

from collections.abc import Mapping

from fedfm.config.coherence.parameters import Number, Word, check_parameters
from fedfm.config.problems import Problems, shown
from fedfm.config.study import Study

LARGEST_LOSS = 2.0
"""The largest audit loss that can be told, ``fedfm.metrics.counts.LOSS_CAP``."""

PARAMETERS: Mapping[str, Mapping[str, Number | Word]] = {
    "cohort": {},
    "uniform": {},
    "power": {"q": Number(0, 100)},
    "tilt": {"t": Number(0, 100)},
    "propfair": {"ceiling": Number(LARGEST_LOSS, 1e6, above=True)},
    "dro": {"gamma": Number(0, 100), "form": Word(("exponentiated", "projected"))},
    "fairfed": {"attribute": Word(), "beta": Number(0, 1000), "form": Word(("exponential", "clipped"))},
    "mgda": {"eps": Number(0, 1)},
    "cgsv": {"alpha": Number(0, 1, below=True)},
    "fedfv": {"alpha": Number(0, 1)},
    "fednova": {"momentum": Number(0, 1, below=True)},
}
"""Weighting rule to its parameters; all must be written. The names are those of ``server_app.weighting``."""


def check_weighting(study: Study, problems: Problems) -> None:
    """Add what is wrong with the parameters of the weighting rule, and what they do not fit."""
    rule, path = study.weighting.rule, "weighting.params"
    if rule not in PARAMETERS:  # named by check_rules
        return
    found = len(problems.errors)
    check_parameters(study.weighting.params, PARAMETERS[rule], path, problems)
    if len(problems.errors) > found:
        return
    if rule == "fairfed":
        _fairfed(study, f"{path}.attribute", problems)
    if rule == "fednova":
        _fednova(study, f"{path}.momentum", problems)


def _fairfed(study: Study, path: str, problems: Problems) -> None:
    """A gap in the share of positives found needs groups that are counted, and one positive class."""
    attribute, groups = str(study.weighting.params["attribute"]), study.task.groups
    if attribute not in groups:
        allowed = ", ".join(groups) or "none: this task has no groups"
        what = "the attribute must be one of task.groups"
        problems.add("E030", what, path=path, found=shown(attribute), allowed=allowed)
    if len(study.task.labels) > 2:
        what = "fairfed compares how many positives are found, and only a two-class task has them"
        problems.add(
            "E030", what, path="weighting.rule", found=f"{len(study.task.labels)} labels", fix="choose weighting=power"
        )


def _fednova(study: Study, path: str, problems: Problems) -> None:
    """How far a site's steps lead depends on its optimiser's momentum, which the rule is told apart from it."""
    momentum, training = study.weighting.params["momentum"], study.training
    fitting = training.momentum if training.optimizer == "sgd" else 0.0
    if momentum != fitting:
        what = f"fednova needs the momentum of the sites' optimiser, which is {training.optimizer}"
        fix = f"set {path}={fitting:g}"
        problems.add("E030", what, path=path, found=shown(momentum), allowed=f"{fitting:g}", fix=fix)

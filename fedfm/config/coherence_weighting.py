"""What a weighting rule's parameters may be, and what of a study it does not fit."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedfm.config.problems import Problems, did_you_mean, shown
from fedfm.config.study import Study


@dataclass(frozen=True)
class Number:
    """A parameter that is a finite number from ``low`` to ``high``; where it is above or below, the end is not in."""

    low: float
    high: float
    above: bool = False
    below: bool = False

    def allowed(self) -> str:
        """Return the range in words."""
        low = f"{'above' if self.above else 'at least'} {self.low:g}"
        return f"a number {low}, {'below' if self.below else 'at most'} {self.high:g}"

    def holds(self, value: float) -> bool:
        """Whether a number is in the range; not-a-number is not."""
        is_low = value > self.low if self.above else value >= self.low
        return is_low and (value < self.high if self.below else value <= self.high)


@dataclass(frozen=True)
class Word:
    """A parameter that is one of these words; any text where there are none."""

    words: tuple[str, ...] = ()


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


def check_parameters(
    params: Mapping[str, object], known: Mapping[str, Number | Word], path: str, problems: Problems
) -> None:
    """Add the parameters that are missing, unknown, of another type, or outside their range."""
    for name in (name for name in params if name not in known):
        fix = did_you_mean(name, known) or "leave it out, or choose the rule by its file: group=rule"
        allowed = ", ".join(known) or "none: the rule has no parameters"
        problems.add("E001", f"unknown parameter {name[:80]!a}", path=path, allowed=allowed, fix=fix)
    for name, kind in known.items():
        if name not in params:
            problems.add("E002", f"`{path}.{name}` is required", path=path, fix=f"add `{name}:`")
        elif isinstance(kind, Number):
            _number(params[name], kind, f"{path}.{name}", problems)
        else:
            _word(params[name], kind, f"{path}.{name}", problems)


def _number(value: object, kind: Number, path: str, problems: Problems) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        problems.add("E003", "must be a number", path=path, found=shown(value), allowed=kind.allowed())
    elif not kind.holds(value):
        problems.add("E008", "is outside its range", path=path, found=shown(value), allowed=kind.allowed())


def _word(value: object, kind: Word, path: str, problems: Problems) -> None:
    if not isinstance(value, str):
        problems.add("E003", "must be text", path=path, found=shown(value), allowed=", ".join(kind.words) or "text")
    elif kind.words and value not in kind.words:
        fix = did_you_mean(value, kind.words)
        allowed = ", ".join(kind.words)
        problems.add("E009", "is none of the allowed words", path=path, found=shown(value), allowed=allowed, fix=fix)


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

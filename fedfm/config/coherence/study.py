"""Settings of a study that are each allowed and do not fit together."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from fedfm.config.coherence.attribution import check_attribution
from fedfm.config.coherence.combining import check_combining, check_optimizing
from fedfm.config.coherence.contribution import check_contribution
from fedfm.config.coherence.explainability import check_explainability
from fedfm.config.coherence.fairness import check_fairness
from fedfm.config.coherence.low_rank import check_low_rank
from fedfm.config.coherence.selection import check_selection
from fedfm.config.coherence.weighting import check_weighting
from fedfm.config.problems import Problems, did_you_mean, shown
from fedfm.config.study import Study

RULE_SETTINGS = ("selection", "weighting", "combining", "optimizing", "reweighting", "contribution")
"""Settings whose ``rule`` names a file of the conf group of the same name."""


SELECTED_BY_LOSS = ("power_of_choice",)
"""Selection rules that look at what the sites' evaluations have told; a test holds them against ``fedfm.signals``."""

_MOST_LABELS, _MOST_LAYERS = 1000, 16  # counts grow with the square of the classes: a site allocates what is asked


def check_study(study: Study, problems: Problems) -> None:
    """Add what does not fit together in a study; a check is left out where its settings are broken."""
    for needs, check in _STUDY_CHECKS:
        if not problems.touch(needs):
            check(study, problems)


def check_rules(study: Study, known: Mapping[str, Sequence[str]], problems: Problems) -> None:
    """Add the rules that no file of their conf group names; ``known`` is group to names."""
    for group in RULE_SETTINGS:
        rule = getattr(study, group).rule
        if rule not in known[group] and not problems.touch([f"{group}.rule"]):
            fix = did_you_mean(rule, known[group])
            allowed = ", ".join(known[group])
            problems.add("E034", f"no {group} rule {rule!r}", path=f"{group}.rule", allowed=allowed, fix=fix)


def _sites(study: Study, problems: Problems) -> None:
    named = len(set(study.sites))
    if 0 < named < study.min_sites:
        what, fix = "the study waits for more sites than it names", "name more sites, or lower min_sites"
        allowed = f"at most {named}, the sites that are named"
        problems.add("E030", what, path="min_sites", found=str(study.min_sites), allowed=allowed, fix=fix)


def _exchange(study: Study, problems: Problems) -> None:
    """What is known only together with the next round's updates cannot decide who makes them, nor whether."""
    if study.evaluation.exchange != "with_training":
        return
    late = {
        "fairness.action": study.fairness.action if study.fairness.action == "stop" else "",
        "selection.rule": study.selection.rule if study.selection.rule in SELECTED_BY_LOSS else "",
    }
    for setting, found in late.items():
        if found:
            what = f"{setting} {found} decides by an evaluation that comes only with the next round's updates"
            fix = f"set evaluation.exchange to own, or choose another {setting}"
            problems.add("E030", what, path="evaluation.exchange", found="with_training", allowed="own", fix=fix)


def _labels(study: Study, problems: Problems) -> None:
    labels, positive = study.task.labels, study.task.positive
    _distinct(labels, "task.labels", problems)
    _distinct(study.task.groups, "task.groups", problems)
    if not 2 <= len(labels) <= _MOST_LABELS:
        allowed = f"two classes to {_MOST_LABELS}"
        problems.add(
            "E030", "not a number of classes", path="task.labels", found=f"{len(labels)} labels", allowed=allowed
        )
    if positive and positive not in labels:
        fix = did_you_mean(positive, labels)
        problems.add("E030", f"{positive!r} is no label", path="task.positive", allowed=", ".join(labels), fix=fix)
    if positive and len(labels) > 2:
        fix = "leave it empty"
        problems.add("E030", "only a two-class task has a positive class", path="task.positive", fix=fix)


def _distinct(words: Sequence[str], path: str, problems: Problems) -> None:
    if "" in words:
        problems.add("E030", "an empty name", path=path, fix="give each a name")
    twice = sorted(word for word, times in Counter(words).items() if times > 1)
    if twice:
        problems.add(
            "E030", "a name is given twice", path=path, found=", ".join(twice), fix="give each a name of its own"
        )


def _columns(study: Study, problems: Problems) -> None:
    task = study.task
    if task.inputs == "columns" and not task.columns:
        problems.add(
            "E030", "inputs = columns needs columns", path="task.columns", fix="add {name, low, high} for each"
        )
    if task.inputs == "text" and task.columns:
        problems.add(
            "E030", "inputs = text has no columns", path="task.columns", fix="set task.inputs=columns, or leave out"
        )
    _distinct([column.name for column in task.columns], "task.columns", problems)
    for number, column in enumerate(task.columns):
        if column.low >= column.high:
            found = f"low {column.low:g}, high {column.high:g}"
            path = f"task.columns.{number}.low"
            problems.add("E030", f"low of {column.name!r} must be below high", path=path, found=found)


def _fit(study: Study, problems: Problems) -> None:
    backbone, inputs, method = study.model.backbone, study.task.inputs, study.adapter.method
    wanted, methods = ("columns", ("full",)) if backbone == "tabular" else ("text", _TEXT_ADAPTERS)
    if inputs != wanted:
        models = "model=minilm" if inputs == "text" else "model=logistic adapter=full"
        what = f"a {backbone} backbone reads {wanted}, and the task gives {inputs}"
        problems.add("E030", what, path="model.backbone", found=backbone, fix=f"choose {models}, or another task")
    if method not in methods:
        what = f"a {backbone} backbone cannot be trained as {method}"
        fix = f"choose adapter={methods[-1]}"
        problems.add("E030", what, path="adapter.method", found=method, allowed=", ".join(methods), fix=fix)


_TEXT_ADAPTERS = ("head", "lora", "dora", "ia3", "bitfit", "full", "ffa_lora")


def _weights(study: Study, problems: Problems) -> None:
    model = study.model
    if (model.backbone == "tabular") != (model.source == "none"):
        fix = "set model.source=none" if model.backbone == "tabular" else "name where the weights come from"
        problems.add("E030", f"a {model.backbone} backbone with source {model.source}", path="model.source", fix=fix)
    if model.source in ("package", "directory", "hub"):
        _pinned(study, problems)
    if len(model.hidden) > _MOST_LAYERS:
        found, allowed = f"{len(model.hidden)}", f"at most {_MOST_LAYERS}"
        problems.add("E030", "too many hidden layers", path="model.hidden", found=found, allowed=allowed)
    if model.hidden and model.backbone != "tabular":
        problems.add("E030", "hidden layers are for tabular models", path="model.hidden", fix="leave it empty")


def _pinned(study: Study, problems: Problems) -> None:
    model = study.model
    if not re.fullmatch(r"[0-9a-f]{64}", model.sha256):
        what = "weights must be pinned by the hash of model.safetensors"
        fix = "run sha256sum on the file and write its 64 digits"
        problems.add("E030", what, path="model.sha256", found=model.sha256[:80] or "nothing", fix=fix)
    if not model.location:
        problems.add("E030", f"source {model.source} needs a location", path="model.location", fix="name the place")
    if model.source == "hub" and not re.fullmatch(r"[0-9a-f]{40}", model.revision):
        what = "a hub id must be pinned to a commit"
        found = model.revision[:80] or "nothing"
        problems.add("E030", what, path="model.revision", found=found, allowed="40 hexadecimal digits")


def _clipping(study: Study, problems: Problems) -> None:
    if study.privacy.mechanism == "gaussian" and study.privacy.max_grad_norm is None:
        fix = "set privacy.max_grad_norm, for example 0.5"
        problems.add("E030", "differential privacy needs a clipping norm", path="privacy.max_grad_norm", fix=fix)


def _adam(study: Study, problems: Problems) -> None:
    if study.training.optimizer == "adam" and study.training.learning_rate > 0.1:
        what = "a step of adam moves every parameter by about training.learning_rate, which is far too long"
        found, fix = f"{study.training.learning_rate:g}", "set training.learning_rate=0.003"
        path = "training.learning_rate"
        problems.add("E030", what, path=path, found=found, allowed="at most 0.1 with adam", fix=fix)


def _bins(study: Study, problems: Problems) -> None:
    for name, bins in (("bins", study.evaluation.bins), ("group_bins", study.evaluation.group_bins)):
        if bins % 2:
            what = "the number of score bins must be even, so that a border lies at one half"
            problems.add("E030", what, path=f"evaluation.{name}", found=str(bins), fix=f"write {bins + 1}")


def _intersections(study: Study, problems: Problems) -> None:
    groups, path, seen = study.task.groups, "task.intersections", set()
    for name in sorted(name for name in groups if set(name) & set("*=")):
        problems.add("E030", "a name with * or =, which join names", path="task.groups", found=shown(name))
    for crossed in study.task.intersections:
        attributes = crossed.split("*")
        unknown = [name for name in attributes if name not in groups]
        if unknown:
            allowed, fix = ", ".join(groups) or "none: this task has no groups", did_you_mean(unknown[0], groups)
            what = f"{unknown[0]!r} is not in task.groups"
            problems.add("E030", what, path=path, found=shown(crossed), allowed=allowed, fix=fix)
        elif len(set(attributes)) < len(attributes) or not 2 <= len(attributes) <= _MOST_CROSSED:
            allowed = f"two to {_MOST_CROSSED} different attributes, such as sex*age_band"
            what = "not an intersection"
            problems.add("E030", what, path=path, found=shown(crossed), allowed=allowed, fix="cross others")
        elif frozenset(attributes) in seen:
            problems.add("E030", "an intersection is given twice", path=path, found=shown(crossed), fix="remove one")
        seen.add(frozenset(attributes))


_MOST_CROSSED = 3  # of more attributes no group has enough patients to say anything of


def _reweighting(study: Study, problems: Problems) -> None:
    """The one rule whose parameters a hospital acts on, so that they are checked on both sides."""
    rule, params = study.reweighting.rule, study.reweighting.params
    if rule not in _REWEIGHTINGS:
        return
    path, ranges = "reweighting.params", _REWEIGHTINGS[rule]
    if set(params) != {"attribute", *ranges}:
        allowed = ", ".join(["attribute", *ranges])
        problems.add("E030", f"{rule} needs other parameters", path=path, found=", ".join(params), allowed=allowed)
        return
    if params["attribute"] not in study.task.groups:
        allowed = ", ".join(study.task.groups) or "none: this task has no groups"
        what = "the attribute must be one of task.groups"
        problems.add("E030", what, path=f"{path}.attribute", found=shown(params["attribute"]), allowed=allowed)
    for name, (least, most) in ranges.items():
        number = params[name]
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not least <= number <= most:
            allowed = f"at least {least:g}, at most {most:g}"
            problems.add("E008", "is outside its range", path=f"{path}.{name}", found=shown(number), allowed=allowed)


_REWEIGHTINGS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "kamiran_calders": {"cap": (1.0, 1e6), "noise_multiplier": (0.01, 1e6)},
    "group_dro": {"step": (0.0, 10.0), "cap": (1.0, 1e6)},
}
"""Rule to its numbers, and the least and the most of each; it takes an attribute beside them."""


def _pulls(study: Study, problems: Problems) -> None:
    training = study.training
    length = training.learning_rate * (training.proximal + training.weight_decay)
    if length > 1:
        what = "a step that pulls parameters beyond where they are pulled to"
        found = f"learning_rate * (proximal + weight_decay) = {length:g}"
        fix = "lower training.proximal, or training.learning_rate"
        problems.add("E030", what, path="training.proximal", found=found, allowed="at most 1", fix=fix)


_STUDY_CHECKS: tuple[tuple[tuple[str, ...], Callable[[Study, Problems], None]], ...] = (
    (("sites", "min_sites"), _sites),
    (("evaluation.exchange", "fairness.action", "selection"), _exchange),
    (("task.labels", "task.positive", "task.groups"), _labels),
    (("task.inputs", "task.columns"), _columns),
    (("task.inputs", "model.backbone", "adapter.method"), _fit),
    (("model",), _weights),
    (("privacy.mechanism", "privacy.max_grad_norm"), _clipping),
    (("training.optimizer", "training.learning_rate"), _adam),
    (("training.learning_rate", "training.proximal", "training.weight_decay"), _pulls),
    (("evaluation.bins", "evaluation.group_bins"), _bins),
    (("task.groups", "task.intersections"), _intersections),
    (("reweighting", "task.groups"), _reweighting),
    (("weighting", "task.groups", "task.labels", "training"), check_weighting),
    (("combining", "adapter.method", "optimizing", "personal", "privacy.mechanism", "weighting"), check_low_rank),
    (("selection",), check_selection),
    (("contribution", "combining", "optimizing", "standardize.method"), check_contribution),
    (("fairness", "evaluation.groups", "task.groups", "task.labels"), check_fairness),
    (("explainability", "task.columns", "task.inputs", "standardize.method"), check_explainability),
    (("combining", "weighting.rule", "adapter.method", "min_sites"), check_combining),
    (("optimizing",), check_optimizing),
    (("explainability.attribution", "task.inputs"), check_attribution),
)

"""What the settings of a study mean for the patients here, in plain words: whatever changes what leaves or is spent.

No patient's row is read. Texts that a coordinator chose are on one line, and cannot act on a screen.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from client_app.plain import plain
from fedfm.config.settings import REQUIRED, settings_of
from fedfm.config.study import Rule, Study
from fedfm.schedule import check_rounds, evaluation_rounds, explanation_rounds, group_rounds
from fedfm.signals import asks_losses, audit_attribute, group_loss_attribute

Words = tuple[str, str]
"""What a line is about, and what it says."""

_LONGEST = 1200  # letters of a list of words, which a person must be able to read whole


def words_of(study: Study) -> Iterator[Words]:
    """Yield line by line how patients are protected, what is counted, trained and looked at, and by which words."""
    yield from _protection(study)
    yield from _counts(study)
    yield from _further_models(study)
    yield from _reasons(study)


def differing(study: Study, resolved: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield each setting that is not as it is where nobody says otherwise: its path, the default, and what it is.

    Args:
        study: Whose settings they are.
        resolved: The same as JSON has it.

    A setting without a default, such as a rule's name, is always among them, with None for the default; name and
    purpose are not, which a person reads anyway.
    """
    for setting in settings_of(type(study)):
        if "[]" in setting.path or setting.path in ("name", "purpose"):
            continue
        value: Any = resolved
        for part in setting.path.split("."):
            value = value[part]
        default = None if setting.default == REQUIRED else setting.default
        if setting.default == REQUIRED or default != value:
            yield setting.path, default, value


def _protection(study: Study) -> Iterator[Words]:
    wanted, training = study.privacy, study.training
    if wanted.max_grad_norm is None:
        yield "one patient", "may change the update by ANY AMOUNT: gradients are not cut"
    else:
        over = "each trained layer has an equal share" if wanted.clipping == "per_layer" else "over all parameters"
        yield f"one {wanted.unit}", f"moves the sum of a step by at most {wanted.max_grad_norm:g} (clip, {over})"
    notes = wanted.max_examples_per_patient
    yield "notes", f"at most {notes} of a patient" if wanted.unit == "patient" else "all: each RECORD counts by itself"
    every = training.sample_rate == 1
    yield "each step", "takes every patient" if every else f"takes each patient by a chance of {training.sample_rate:g}"
    yield "computes in", training.precision
    if wanted.mechanism == "none":
        yield "budget", "NONE: there is no noise and no limit"
        return
    figures = (wanted.epsilon, wanted.evaluation_epsilon, wanted.audit_epsilon)
    delta = "1 / (10 declared patients)" if wanted.delta is None else f"{wanted.delta:g}"
    of = ", ".join(f"{value:g} of {split}" for value, split in zip(figures, ("train", "test", "audit"), strict=True))
    yield "budget", f"epsilon of a run: {of} patients; delta {delta}"


def _counts(study: Study) -> Iterator[Words]:
    wanted = study.evaluation
    is_exact = wanted.release == "exact" or study.privacy.mechanism == "none"
    how = "EXACT, WITHOUT NOISE, but for small cells (policy.small_cells)" if is_exact else "with noise"
    times = _times(evaluation_rounds(study))
    yield "counts", f"of test patients, {how}; {times}, in {wanted.bins} score bins at the end"
    groups = ", ".join([*study.task.groups, *study.task.intersections])
    rounds = group_rounds(study)
    told = f"{plain(groups)}: {_times(rounds)}, in {wanted.group_bins} score bins at the end"
    yield "by group", told if rounds else "not counted"
    yield "losses", "sums over audit patients leave" if asks_losses(study) else "none leave"
    if attribute := audit_attribute(study):
        yield (
            "audit groups",
            f"counts of audit patients by {plain(attribute)} leave, for weighting={study.weighting.rule}",
        )
    yield "inputs are scaled", _SCALED[study.standardize.method].format(share=f"{study.standardize.share:g}")


_SCALED = {
    "reference": "by public ranges that the study names",
    "global": "by sums over training patients of all hospitals, which leave with noise ({share} of epsilon)",
    "site": "by sums over training patients here, which stay ({share} of epsilon)",
    "none": "not at all",
}


def _further_models(study: Study) -> Iterator[Words]:
    attribute = group_loss_attribute(study)
    of = f"; losses of audit patients by {plain(attribute)} are summed in each round, and stay" if attribute else ""
    yield "examples weigh", _rule(study.reweighting, nothing="all the same") + of
    alone, own = study.baseline, study.personal
    told = f"once, with {alone.share:g} of epsilon; a count of its answers leaves, the model stays"
    yield "trained alone", told if alone.method == "alone" else "nothing"
    told = f"yes, pulled by {own.pull:g}: WITHOUT NOISE, it stays here and costs no epsilon"
    yield "a model of our own", told if own.method == "ditto" else "none"


def _rule(rule: Rule, *, nothing: str) -> str:
    if rule.rule == "none":
        return nothing
    params = ", ".join(f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in rule.params.items())
    return plain(f"by {rule.rule}" + (f" ({params})" if params else ""))


def _reasons(study: Study) -> Iterator[Words]:
    wanted = study.explainability
    if wanted.attribution == "none":
        yield "reasons", "are not asked for"
        return
    times = f"{_times(explanation_rounds(study))} of the global model, {_times(check_rounds(study))} of this site's"
    yield "reasons", f"{wanted.attribution}, of about {wanted.documents} audit documents; figures leave {times}"
    yield "vocabulary", _listed(wanted.vocabulary, "terms whose credits leave")
    lists = [f"{name}: {', '.join(phrases)}" for name, phrases in wanted.shortcuts.items()]
    yield "shortcuts", _listed(lists, "lists of words that must not decide; how much they do leaves", between="; ")
    lists = [f"{name}: {_exchanged(phrases)}" for name, phrases in wanted.swaps.items()]
    yield "swaps", _listed(lists, "lists of phrases that are exchanged; what changes leaves", between="; ")


def _exchanged(phrases: Mapping[str, str]) -> str:
    return ", ".join(f"{old} -> {new or '(taken out)'}" for old, new in phrases.items())


def _listed(texts: Sequence[str], what: str, *, between: str = ", ") -> str:
    return plain(f"{what} ({len(texts)}): {between.join(texts)}", most=_LONGEST) if texts else "none"


def _times(rounds: Sequence[int]) -> str:
    return "once" if len(rounds) == 1 else f"{len(rounds)} times"

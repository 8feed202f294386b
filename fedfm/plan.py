"""How a study's budgets are spent: one noise for all rounds, chosen before the first.

The coordinator plans by it before anybody trains, and each site again for its own cohort.
Training patients, audit patients and test patients are three disjoint sets with a budget each
(parallel composition: nobody spends more than the largest).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fedfm.config.site import RELEASES
from fedfm.config.study import Study
from fedfm.privacy import Release, epsilon, plan_noise
from fedfm.schedule import (
    audit_group_rounds,
    check_rounds,
    closing_round,
    evaluation_rounds,
    explanation_rounds,
    group_rounds,
)
from fedfm.signals import asks_losses, audit_attribute, group_loss_attribute

_IS_WORTH = 9  # a third of the noise on the way: what the report's figures come from


@dataclass(frozen=True)
class Plan:
    """Noise of every release of a study at a site; 0 where the study has no protection.

    A release of several ``steps`` that is taken at once has the noise of their mean (``sd``).

    Attributes:
        delta: Chance of failure.
        training: Training patients: one round of training.
        statistics: Training patients: sums of the inputs before round 1, or None.
        reweighting: Training patients: the count of groups and labels before round 1, or None.
        alone: Training patients: all steps of a training without the other sites, or None.
        evaluation: Test patients: one evaluation on the way.
        last_evaluation: Test patients: the closing one, which is to be precise.
        groups: Test patients: a count by groups on the way, or None.
        last_groups: Test patients: the count by groups in the closing evaluation, or None.
        alone_count: Test patients: the count of the answers of the model trained alone, or None.
        loss: Audit patients: the loss in one evaluation, or None.
        audit_groups: Audit patients: the count by one attribute in one evaluation, or None.
        group_losses: Audit patients: the losses by one attribute in one round of training, or None.
        explanation: Audit patients: the figures of one explanation of the global model, or None.
        terms: Audit patients: the credits of a public vocabulary in one explanation, or None.
        check: Audit patients: the figures of one check of the site's own model, or None.
        planned: Epsilon of a training patient after the last round; inf without a mechanism.
    """

    delta: float
    training: Release
    statistics: Release | None
    reweighting: Release | None
    alone: Release | None
    evaluation: Release
    last_evaluation: Release
    groups: Release | None
    last_groups: Release | None
    alone_count: Release | None
    loss: Release | None
    audit_groups: Release | None
    group_losses: Release | None
    explanation: Release | None
    terms: Release | None
    check: Release | None
    planned: float


@dataclass(frozen=True)
class Planned:
    """One kind of release of a plan.

    Attributes:
        name: The field of ``Plan``.
        split: Whose patients it is about: ``train``, ``test`` or ``audit``.
        release: Its noise.
        times: How often it is taken when every round runs; 1 or more.
        added: Noise of one, in units of its sensitivity: of a training each step's, of others that of their mean.
    """

    name: str
    split: str
    release: Release
    times: int
    added: float


SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("training", "statistics", "reweighting", "alone"),
    "test": ("evaluation", "last_evaluation", "groups", "last_groups", "alone_count"),
    "audit": ("loss", "audit_groups", "group_losses", "explanation", "terms", "check"),
}
"""Split to the releases about its patients, fields of ``Plan``."""

_IN_STEPS = ("training", "alone")


def planned(study: Study, made: Plan) -> list[Planned]:
    """Return every release that the study takes, and how often."""
    counts, found = _times(study), []
    for split, names in SPLITS.items():
        for name in names:
            release: Release | None = getattr(made, name)
            if release is not None and counts[name]:
                added = release.noise_multiplier if name in _IN_STEPS else sd(release)
                found.append(Planned(name, split, release, counts[name], added))
    return found


def of_split(study: Study, made: Plan, split: str) -> list[Release]:
    """Return all releases about the patients of one split, for the accountant."""
    return [
        Release(one.release.noise_multiplier, one.release.sample_rate, one.release.steps * one.times)
        for one in planned(study, made)
        if one.split == split
    ]


def rounds_of(study: Study) -> Mapping[str, Sequence[int]]:
    """Return the rounds that each release, a field of ``Plan``, is taken in or after; 0 for before the first."""
    every, first, closing = range(1, study.rounds + 1), (0,), (closing_round(study),)
    looks = explanation_rounds(study)
    return {
        **dict.fromkeys(("statistics", "reweighting"), first),
        **dict.fromkeys(("alone", "last_evaluation", "last_groups", "alone_count"), closing),
        "training": every,
        "evaluation": evaluation_rounds(study)[:-1],
        "groups": group_rounds(study)[:-1],
        "loss": evaluation_rounds(study),
        "audit_groups": audit_group_rounds(study),
        "group_losses": every,
        "explanation": looks,
        "terms": looks,
        "check": check_rounds(study),
    }


def _times(study: Study) -> Mapping[str, int]:
    """Return how often each release is taken: by its field of ``Plan``."""
    return {name: len(rounds) for name, rounds in rounds_of(study).items()}


def leaving(study: Study) -> tuple[str, ...]:
    """Return what leaves a site beside the update: words of ``RELEASES``. Needs no plan, so no accountant."""
    asked = {
        "statistics": study.standardize.method == "global",  # of ``site`` they stay
        "evaluation": True,
        "groups": counts_groups(study),
        "alone_count": _alone(study),
        "loss": asks_losses(study),
        "audit_groups": bool(audit_attribute(study) and audit_group_rounds(study)),
        "explanation": explains(study),
        "terms": credits_terms(study),
        "check": explains(study),
    }
    return tuple(name for name in RELEASES if asked[name])


def sd(release: Release) -> float:
    """Return the noise of a release that is taken at once, in units of its sensitivity."""
    return release.noise_multiplier / math.sqrt(release.steps)


def default_delta(patients: int) -> float:
    """Return the chance of failure where a study names none: 1 / (10 n), far below one patient of the cohort."""
    return 1 / (10 * patients)


def plan(study: Study, *, delta: float) -> Plan:
    """Return the noise that keeps each set of patients within its budget when every round runs.

    Raises:
        PolicyError: No noise can.
    """
    if study.privacy.mechanism == "none":
        return _plan(study, delta, on_train=(None, 0.0), on_test=0.0, on_audit=0.0)
    steps, rate = study.training.local_steps, study.training.sample_rate
    alone = _share(study, study.baseline.share, delta, rate=rate, steps=study.rounds * steps) if _alone(study) else None
    pooled = _share(study, study.standardize.share, delta, rate=1.0, steps=1) if pools_statistics(study) else None
    before = [release for release in (pooled, reweighting(study), alone) if release]
    noise = plan_noise(study.privacy.epsilon, delta, sample_rate=rate, steps=study.rounds * steps, before=before)
    made = _plan(
        study, delta, on_train=(alone, noise), on_test=_test_noise(study, delta), on_audit=_audit_noise(study, delta)
    )
    made = replace(made, statistics=pooled)
    return replace(made, planned=epsilon(of_split(study, made, "train"), delta))


def counts_groups(study: Study) -> bool:
    """Whether the closing evaluation counts by groups."""
    return bool(group_rounds(study))


def crossed(study: Study) -> int:
    """Return how many counts by group one test patient may be in: one for each attribute and intersection."""
    return len(study.task.groups) + len(study.task.intersections)


def _plan(
    study: Study, delta: float, *, on_train: tuple[Release | None, float], on_test: float, on_audit: float
) -> Plan:
    """Return the plan of the noises; what the study does not take is None."""
    alone, noise = on_train
    rate, steps = study.training.sample_rate, study.training.local_steps

    def if_asked(asked: bool, noise: float, worth: int = 1) -> Release | None:
        return Release(noise, 1.0, worth) if asked else None

    is_open = study.privacy.mechanism == "none"
    worth = 1 if is_open else _IS_WORTH
    return Plan(
        delta=delta,
        training=Release(noise, rate, steps),
        statistics=if_asked(is_open and pools_statistics(study), 0.0),
        reweighting=if_asked(reweighting(study) is not None, 0.0) if is_open else reweighting(study),
        alone=alone if not is_open or not _alone(study) else Release(0.0, rate, study.rounds * steps),
        evaluation=Release(on_test, 1.0, 1),
        last_evaluation=Release(on_test, 1.0, worth),
        groups=if_asked(counts_groups(study), on_test),
        last_groups=if_asked(counts_groups(study), on_test, worth),
        alone_count=if_asked(_alone(study), on_test, worth),
        loss=if_asked(asks_losses(study), on_audit),
        audit_groups=if_asked(bool(audit_attribute(study)), on_audit),
        group_losses=if_asked(bool(group_loss_attribute(study)), on_audit),
        explanation=if_asked(explains(study), on_audit, worth),
        terms=if_asked(credits_terms(study), on_audit, worth),
        check=if_asked(explains(study), on_audit, worth),
        planned=math.inf,
    )


def pools_statistics(study: Study) -> bool:
    """Whether sums of the inputs are taken before round 1."""
    return study.standardize.method in ("global", "site")


def explains(study: Study) -> bool:
    """Whether the reasons of models are asked for."""
    return study.explainability.attribution != "none"


def credits_terms(study: Study) -> bool:
    """Whether the credits of a public vocabulary are asked for."""
    return explains(study) and bool(study.explainability.vocabulary)


def _alone(study: Study) -> bool:
    return study.baseline.method == "alone"


def _share(study: Study, share: float, delta: float, *, rate: float, steps: int) -> Release:
    """Return the release that spends a share of a training patient's budget."""
    return Release(plan_noise(share * study.privacy.epsilon, delta, sample_rate=rate, steps=steps), rate, steps)


def reweighting(study: Study) -> Release | None:
    """Return the count of groups and labels before round 1, whose noise the study names; None where there is none."""
    noise = study.reweighting.params.get("noise_multiplier") if study.reweighting.rule == "kamiran_calders" else None
    return None if noise is None else Release(float(noise), 1.0, 1)


def _test_noise(study: Study, delta: float) -> float:
    """Return the noise of an evaluation on the way, of which the closing one takes a third."""
    if study.evaluation.release == "exact":
        return 0.0
    times = _times(study)
    releases = times["evaluation"] + _IS_WORTH * (1 + _alone(study))
    if counts_groups(study):
        releases += times["groups"] + _IS_WORTH
    return plan_noise(study.privacy.evaluation_epsilon, delta, sample_rate=1.0, steps=releases)


def _audit_noise(study: Study, delta: float) -> float:
    times = _times(study)
    asked = {"loss": asks_losses(study), "audit_groups": audit_attribute(study)}
    asked |= {"group_losses": group_loss_attribute(study)}
    releases = sum(times[name] for name, is_asked in asked.items() if is_asked)
    precise = {"explanation": explains(study), "terms": credits_terms(study), "check": explains(study)}
    releases += _IS_WORTH * sum(times[name] for name, is_asked in precise.items() if is_asked)
    if not releases:
        return 0.0
    return plan_noise(study.privacy.audit_epsilon, delta, sample_rate=1.0, steps=releases)

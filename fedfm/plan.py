"""How a study's budgets are spent: one noise for all rounds, chosen before the first.

The coordinator plans by it before anybody trains, and each site again for its own cohort.
Training patients, audit patients and test patients are three disjoint sets with a budget each
(parallel composition: nobody spends more than the largest).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from fedfm.config.study import Study
from fedfm.privacy import Release, epsilon, plan_noise
from fedfm.schedule import evaluation_rounds, explanation_rounds

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
        evaluation: Test patients: one evaluation on the way.
        last_evaluation: Test patients: the one after the last round, which is to be precise.
        groups: Test patients: the count by groups in the last evaluation, or None.
        loss: Audit patients: the loss in one evaluation, or None.
        explanation: Audit patients: one explanation, or None.
        planned: Epsilon of a training patient after the last round; inf without a mechanism.
    """

    delta: float
    training: Release
    statistics: Release | None
    reweighting: Release | None
    evaluation: Release
    last_evaluation: Release
    groups: Release | None
    loss: Release | None
    explanation: Release | None
    planned: float

    def at_once(self) -> Iterator[tuple[str, Release]]:
        """Return by name every release but the training, which is the one taken step by step."""
        for name in ("statistics", "reweighting", "evaluation", "last_evaluation", "groups", "loss", "explanation"):
            release: Release | None = getattr(self, name)
            if release is not None:
                yield name, release


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
        return _open_plan(study, delta)
    statistics = _statistics(study, delta)
    counts = reweighting(study)
    before = [release for release in (statistics, counts) if release]
    steps, rate = study.training.local_steps, study.training.sample_rate
    noise = plan_noise(study.privacy.epsilon, delta, sample_rate=rate, steps=study.rounds * steps, before=before)
    on_test, on_audit = _evaluation_noise(study, delta), _audit_noise(study, delta)
    return Plan(
        delta=delta,
        training=Release(noise, rate, steps),
        statistics=statistics,
        reweighting=counts,
        evaluation=Release(on_test, 1.0, 1),
        last_evaluation=Release(on_test, 1.0, _IS_WORTH),
        groups=Release(on_test, 1.0, _IS_WORTH) if counts_groups(study) else None,
        loss=Release(on_audit, 1.0, 1) if study.evaluation.audit_loss else None,
        explanation=Release(on_audit, 1.0, _IS_WORTH) if _explains(study) else None,
        planned=epsilon([*before, Release(noise, rate, study.rounds * steps)], delta),
    )


def counts_groups(study: Study) -> bool:
    """Whether the last evaluation counts by groups."""
    return study.evaluation.groups and bool(study.task.groups)


def _open_plan(study: Study, delta: float) -> Plan:
    unprotected = Release(0.0, 1.0, 1)
    return Plan(
        delta=delta,
        training=Release(0.0, study.training.sample_rate, study.training.local_steps),
        statistics=unprotected if pools_statistics(study) else None,
        reweighting=unprotected if reweighting(study) else None,
        evaluation=unprotected,
        last_evaluation=unprotected,
        groups=unprotected if counts_groups(study) else None,
        loss=unprotected if study.evaluation.audit_loss else None,
        explanation=unprotected if _explains(study) else None,
        planned=math.inf,
    )


def pools_statistics(study: Study) -> bool:
    """Whether sums of the inputs are taken before round 1."""
    return study.standardize.method in ("global", "site")


def _explains(study: Study) -> bool:
    return study.explainability.attribution != "none"


def _statistics(study: Study, delta: float) -> Release | None:
    if not pools_statistics(study):
        return None
    target = study.standardize.share * study.privacy.epsilon
    return Release(plan_noise(target, delta, sample_rate=1.0, steps=1), 1.0, 1)


def reweighting(study: Study) -> Release | None:
    """Return the count of groups and labels before round 1, whose noise the study names; None where there is none."""
    noise = study.reweighting.params.get("noise_multiplier") if study.reweighting.rule != "none" else None
    return None if noise is None else Release(float(noise), 1.0, 1)


def _evaluation_noise(study: Study, delta: float) -> float:
    if study.evaluation.release == "exact":
        return 0.0
    releases = len(evaluation_rounds(study)) - 1 + _IS_WORTH * (2 if counts_groups(study) else 1)
    return plan_noise(study.privacy.evaluation_epsilon, delta, sample_rate=1.0, steps=releases)


def _audit_noise(study: Study, delta: float) -> float:
    losses = len(evaluation_rounds(study)) if study.evaluation.audit_loss else 0
    explanations = _IS_WORTH * len(explanation_rounds(study)) if _explains(study) else 0
    if not losses + explanations:
        return 0.0
    return plan_noise(study.privacy.audit_epsilon, delta, sample_rate=1.0, steps=losses + explanations)

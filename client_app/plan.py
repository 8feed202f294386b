"""How this site spends a study's budget: one noise for all rounds, chosen before the first."""

import math
from dataclasses import dataclass

from client_app.site import delta
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.errors import PolicyError
from fedfm.privacy import Release, epsilon, plan_noise
from fedfm.schedule import evaluation_rounds, explanation_rounds

_LAST_IS_WORTH = 9  # a third of the noise on the way; the report's figures come from it


@dataclass(frozen=True)
class Plan:
    """Noise of every release of a study at this site; 0 where the study has no protection.

    Attributes:
        delta: Chance of failure.
        training: One round of training.
        reweighting: The count of groups and labels before round 1, or None.
        evaluation: One evaluation on test patients on the way.
        last_evaluation: The one after the last round, which is to be precise. Several releases' worth,
            taken at once: the mean of ``steps`` releases has the noise divided by their square root.
        explanation: One explanation on audit patients, or None.
        planned: Epsilon of a training patient after the last round; inf without a mechanism.
    """

    delta: float
    training: Release
    reweighting: Release | None
    evaluation: Release
    last_evaluation: Release
    explanation: Release | None
    planned: float


def plan(site: Site, study: Study) -> Plan:
    """Return the noise that keeps each split within its budget when every round runs.

    Raises:
        PolicyError: No noise can, or less noise than the policy's least would be needed.
    """
    at, steps, rate = delta(site, study), study.training.local_steps, study.training.sample_rate
    counts = _reweighting(study)
    explains = study.explainability.attribution != "none"
    if study.privacy.mechanism == "none":
        open_release = Release(0.0, 1.0, 1)
        return Plan(
            delta=at,
            training=Release(0.0, rate, steps),
            reweighting=open_release if counts else None,
            evaluation=open_release,
            last_evaluation=open_release,
            explanation=open_release if explains else None,
            planned=math.inf,
        )
    before = [counts] if counts else []
    total = study.rounds * steps
    noise = plan_noise(study.privacy.epsilon, at, sample_rate=rate, steps=total, before=before)
    made = Plan(
        delta=at,
        training=Release(noise, rate, steps),
        reweighting=counts,
        evaluation=Release(_evaluation_noise(study, at), 1.0, 1),
        last_evaluation=Release(_evaluation_noise(study, at), 1.0, _LAST_IS_WORTH),
        explanation=Release(_single(study.privacy.audit_epsilon, at, len(explanation_rounds(study))), 1.0, 1)
        if explains
        else None,
        planned=epsilon([*before, Release(noise, rate, total)], at),
    )
    _enough_noise(site, made)
    return made


def _reweighting(study: Study) -> Release | None:
    noise = study.reweighting.params.get("noise_multiplier") if study.reweighting.rule != "none" else None
    return None if noise is None else Release(float(noise), 1.0, 1)


def _evaluation_noise(study: Study, at: float) -> float:
    if study.evaluation.release == "exact":
        return 0.0
    return _single(study.privacy.evaluation_epsilon, at, len(evaluation_rounds(study)) - 1 + _LAST_IS_WORTH)


def _single(target: float, at: float, releases: int) -> float:
    return plan_noise(target, at, sample_rate=1.0, steps=releases)


def _enough_noise(site: Site, made: Plan) -> None:
    least = site.policy.min_noise_multiplier
    for name in ("training", "reweighting", "evaluation", "last_evaluation", "explanation"):
        release: Release | None = getattr(made, name)
        if release is None or name == "training":
            added = release.noise_multiplier if release else math.inf
        else:
            added = release.noise_multiplier / math.sqrt(release.steps)  # several releases' worth at once
        if 0 < added < least:
            raise PolicyError(
                "SITE-E105",
                f"less noise than the site allows, in {name}",
                where=f"policy of {site.id}",
                found=f"noise multiplier {added:.3f}",
                allowed=f"at least {least:g}",
                fix="lower the study's epsilon",
            )

"""What a study would spend and how loud its noise would be, for cohorts of a given size; before anyone trains."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fedfm.config.site import Policy
from fedfm.config.study import Study
from fedfm.plan import Plan, default_delta, of_split, plan, planned
from fedfm.privacy import Release, epsilon

COHORTS = (100, 300, 1000, 3000)
"""Declared patients of a site that are planned for where nobody names any."""
_MOST = 100  # rounds of which epsilon is worth computing


@dataclass(frozen=True)
class Federation:
    """Who would train what; all of it public.

    Attributes:
        sites: S, sites of one size whose updates are averaged; >= 1.
        parameters: d, trained parameters; >= 1.
    """

    sites: int
    parameters: int


@dataclass(frozen=True)
class Outlook:
    """A study at sites of one size.

    Attributes:
        patients: Declared training patients of each site.
        plan: Noise of every release.
        noises: Noise multiplier of each release by name.
        rounds: Round to epsilon of a training patient after it, for at most 100 rounds evenly, the first and last
            among them; inf without a mechanism.
        test: Epsilon of a test patient after the last round; inf where counts are exact.
        audit: Epsilon of an audit patient after the last round.
        noise_to_signal: Of the update of one site over the whole study; >= 0.
        averaged: Of the average over the sites.
    """

    patients: int
    plan: Plan
    noises: Mapping[str, float]
    rounds: Mapping[int, float]
    test: float
    audit: float
    noise_to_signal: float
    averaged: float


def outlook(study: Study, patients: int, federation: Federation) -> Outlook:
    """Return what the study would spend and add at sites of ``patients`` declared patients each.

    Guarantees:
        The plan is the one that a site with the default policy makes for itself.

    Raises:
        PolicyError: No noise keeps the study within its budget.
    """
    made = plan(study, delta=delta(study, patients))
    before = before_training(study, made)
    one = noise_to_signal(study, made, patients=patients, parameters=federation.parameters)
    return Outlook(
        patients=patients,
        plan=made,
        noises=noises(study, made),
        rounds={
            done: _spent([*before, _times(made.training, done)], made.delta) for done in some_of(study.rounds, _MOST)
        },
        test=_spent(of_split(study, made, "test"), made.delta),
        audit=_spent(of_split(study, made, "audit"), made.delta),
        noise_to_signal=one,
        averaged=one / math.sqrt(federation.sites),
    )


def some_of(count: int, most: int) -> list[int]:
    """Return at most ``most`` of 1, 2, ... ``count``, evenly, with both ends; ``most`` >= 2."""
    if count <= most:
        return list(range(1, count + 1))
    return sorted({1 + round(step * (count - 1) / (most - 1)) for step in range(most)})


def delta(study: Study, patients: int) -> float:
    """Return the delta that a site with the default policy states its epsilons at."""
    return min(default_delta(patients), Policy().max_delta) if study.privacy.delta is None else study.privacy.delta


def noise_to_signal(study: Study, made: Plan, *, patients: int, parameters: int) -> float:
    """Return how long the noise of one site's updates is, over the longest that its patients could make them.

    Over T steps of the whole study a site adds Gaussian noise of standard deviation sigma * C to each of d
    parameters, of Euclidean length sigma * C * sqrt(d * T); its patients, q * n in a step and clipped to C, add at
    most q * n * C * T, which they reach only if all gradients of all steps point one way. The ratio,
    sigma * sqrt(d) / (q * n * sqrt(T)), is free of the clipping norm and the step length. Noises of S sites are
    independent and patients are not: the average of S equal sites has 1 / sqrt(S) of the ratio.

    Args:
        study: Its rounds and local steps make T, its sample rate is q.
        made: Its sigma.
        patients: n, declared at the site.
        parameters: d, trained parameters.
    """
    steps = study.rounds * made.training.steps
    return made.training.noise_multiplier * math.sqrt(parameters / steps) / (made.training.sample_rate * patients)


def before_training(study: Study, made: Plan) -> list[Release]:
    """Return the releases about training patients beside the training itself."""
    return [one.release for one in planned(study, made) if one.split == "train" and one.name != "training"]


def noises(study: Study, made: Plan) -> dict[str, float]:
    """Return the noise multiplier of each release by name, a last one as precise as it is."""
    return {one.name: one.added for one in planned(study, made)}


def trained_parameters(study: Study) -> int:
    """Return how many parameters the study trains.

    Raises:
        ModelError: The weights cannot be had on this machine.
    """
    from fedfm.model.build import model_of  # noqa: PLC0415 - a plan whose size is named needs no model

    return sum(parameter.numel() for parameter in model_of(study).parameters() if parameter.requires_grad)


def _times(release: Release, count: int) -> Release:
    return Release(release.noise_multiplier, release.sample_rate, release.steps * count)


def _spent(history: list[Release], at: float) -> float:
    return math.inf if any(release.noise_multiplier == 0 for release in history) else epsilon(history, at)

"""Planted units through the real private step: how far does one move the update, against the noise?

An empirical audit by the Gaussian estimate (Nasr et al. 2023, arXiv:2302.07956; Mahloujifar,
Melis, Chaudhuri 2025, arXiv:2410.22235): many canaries at once, each in or out by a coin of its
own, each alone on a direction of its own. The distance of the two groups of scores, in standard
deviations, is what the mechanism really allows; the plan claims it too. No patient is involved.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from client_app.noise import secure_uniform
from client_app.private_step import Mechanism
from client_app.training import Cohort, fine_tune_by_unit
from fedfm.config.study import Adapter, Column, Model, Study, Task
from fedfm.gaussian import epsilon_of
from fedfm.model.build import build_model
from fedfm.model.classifier import Classifier
from fedfm.plan import Plan
from fedfm.privacy import Release, epsilon

_MARGIN = 3.0  # standard errors; one honest audit in 370 is beyond

Tell = Callable[[int], None]
"""Is called with how many parts of the work are done."""


@dataclass(frozen=True)
class CanaryResult:
    """What the canaries say.

    Attributes:
        canaries: How many, in and out.
        steps: Steps of all rounds.
        noise_multiplier: What the plan says.
        delta: Chance of failure that the epsilons are stated at.
        claimed: Epsilon that the plan claims for these steps.
        expected: Distance, in standard deviations, that a step as planned gives: q sqrt(steps) / noise.
        measured: The distance found.
        error: Its standard error.
    """

    canaries: int
    steps: int
    noise_multiplier: float
    delta: float
    claimed: float
    expected: float
    measured: float
    error: float

    @property
    def status(self) -> str:
        """``violated``: more leaks than claimed; ``weak``: less is found than must be; else ``consistent``.

        A step whose noise repeats, or that leaves units out, is weak: the audit says nothing for it then.
        """
        distance = (self.measured - self.expected) / self.error
        return "violated" if distance > _MARGIN else "weak" if distance < -_MARGIN else "consistent"

    def epsilon_range(self) -> tuple[float, float, float]:
        """Return the epsilon that the canaries estimate at ``delta``, and its 95 % interval."""
        low, high = self.measured - 1.96 * self.error, self.measured + 1.96 * self.error
        return (
            epsilon_of(self.measured, self.delta),
            epsilon_of(max(low, 0.0), self.delta),
            epsilon_of(high, self.delta),
        )


def audit_canaries(
    study: Study, plan: Plan, *, canaries: int, micro_batch: int, tell: Tell = lambda done: None
) -> CanaryResult:
    """Train on canaries alone, through the step that trains on patients, and tell the two groups apart.

    Clip, noise, sample rate, steps and rounds are the study's. The coordinator's other choices are made
    as the worst coordinator would: no momentum and no pull, and steps so short that every canary's gradient
    stays beyond the clipping norm.

    Args:
        study: With a mechanism.
        plan: Its plan at this site.
        canaries: At least 100; the error falls with its root.
        micro_batch: Examples in memory at once.
        tell: Told after each round.
    """
    clip = study.privacy.max_grad_norm or 1.0
    is_in = secure_uniform(canaries) <= 0.5
    model, labels = _flat_model(canaries), np.arange(canaries) % 2
    cohort = _cohort(study, labels, is_in, scale=100.0 * max(clip, 1.0))
    steps, units = study.rounds * plan.training.steps, canaries / 2 * study.training.sample_rate
    harmless = 1e-3 / (100.0 * max(clip, 1.0) * steps * max(plan.training.noise_multiplier, 1.0))
    training = replace(study.training, learning_rate=units * harmless, momentum=0.0, proximal=0.0, weight_decay=0.0)
    for number in range(study.rounds):
        fine_tune_by_unit(
            model,
            cohort,
            training=training,
            mechanism=Mechanism(plan.training.noise_multiplier, clip, units),
            micro_batch=micro_batch,
            uniform=secure_uniform,
        )
        tell(number + 1)
    moved = model.head.weight.detach().double().numpy()  # started at 0
    each = np.arange(canaries)
    return _result(plan, steps=steps, scores=moved[labels, each] - moved[1 - labels, each], is_in=is_in)


def _result(plan: Plan, *, steps: int, scores: NDArray[np.float64], is_in: NDArray[np.bool_]) -> CanaryResult:
    inside, outside = scores[is_in], scores[~is_in]
    spread = float(outside.std(ddof=1))
    measured = float(inside.mean() - outside.mean()) / spread
    error = math.sqrt(
        (float(inside.var(ddof=1)) / spread**2) / len(inside)
        + 1 / len(outside)
        + measured**2 / (2 * (len(outside) - 1))  # of the standard deviation that it is divided by
    )
    noise, rate = plan.training.noise_multiplier, plan.training.sample_rate
    return CanaryResult(
        canaries=len(scores),
        steps=steps,
        noise_multiplier=noise,
        delta=plan.delta,
        claimed=epsilon([Release(noise, rate, steps)], plan.delta),
        expected=rate * math.sqrt(steps) / noise,
        measured=measured,
        error=error,
    )


def _flat_model(canaries: int) -> Classifier:
    """A linear classifier with one input for each canary, all parameters 0."""
    columns = [Column(name=f"c{number}", low=-1.0, high=1.0) for number in range((canaries + 1) // 2)]
    model = build_model(
        Model(backbone="tabular", source="none"),
        Adapter(method="head"),
        Task(inputs="columns", labels=["no", "yes"], columns=columns),
        seed=0,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


def _cohort(study: Study, labels: NDArray[np.intp], is_in: NDArray[np.bool_], *, scale: float) -> Cohort:
    """The canaries that are in; those of a patient-level study have one to three notes, so that averaging counts."""
    width = 2 * ((len(labels) + 1) // 2)
    most = 1 if study.privacy.unit == "record" else min(3, study.privacy.max_examples_per_patient)
    states: list[torch.Tensor] = []
    chosen: list[int] = []
    units: list[NDArray[np.intp]] = []
    for canary in np.flatnonzero(is_in):
        notes = 1 + int(canary) % most
        units.append(np.arange(len(states), len(states) + notes))
        for note in range(notes):
            state = torch.zeros(width)
            state[canary] = scale * (1 + note)
            states.append(state)
            chosen.append(int(labels[canary]))
    return Cohort(states=states, labels=torch.tensor(chosen), units=units, weights=torch.ones(len(states)))

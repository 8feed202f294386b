"""Epsilon over all rounds, and the noise that keeps it below a target.

Everything is a Poisson-subsampled Gaussian mechanism, composed by Opacus's PRV accountant
(Gopi, Lee, Wutschitz 2021, arXiv:2106.02848), whose upper bound is what we report. Neighbouring
data sets differ in one unit (a patient, or a record) being there or not.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from opacus.accountants import PRVAccountant

from fedfm.errors import PolicyError

_LARGEST_NOISE = 1e6


@dataclass(frozen=True)
class Release:
    """Steps of one Gaussian mechanism.

    Attributes:
        noise_multiplier: Standard deviation of the noise in units of the L2 sensitivity; > 0.
        sample_rate: Chance of each unit to take part in a step, in (0, 1].
        steps: Number of steps; >= 1.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int


def epsilon(history: Iterable[Release], delta: float) -> float:
    """Return an upper bound on epsilon after all releases of ``history``, at ``delta``.

    Guarantees:
        Equals Opacus's ``PRVAccountant`` on the same history; 0 for an empty one; does not
        depend on how equal steps are divided over releases, rounds, runs or restarts.
    """
    return _epsilon(_merged(history), delta)


def plan_noise(target: float, delta: float, *, sample_rate: float, steps: int, before: Sequence[Release] = ()) -> float:
    """Return the smallest noise multiplier that keeps all steps within ``target``.

    Args:
        target: Epsilon that may not be passed; > 0.
        delta: Chance of failure, in (0, 1).
        sample_rate: Of the steps to plan, in (0, 1].
        steps: All steps of all rounds to come.
        before: Releases on the same units that count against the same target.

    Guarantees:
        ``epsilon([*before, Release(result, sample_rate, steps)], delta) <= target``, and the
        result is at most 0.2 % above the smallest multiplier with that property.

    Raises:
        PolicyError: ``before`` alone uses up the target.
    """
    return _plan_noise(target, delta, sample_rate, steps, _merged(before))


@lru_cache(maxsize=256)  # a pure function; searching takes a second, and every round asks again
def _plan_noise(target: float, delta: float, sample_rate: float, steps: int, before: tuple[Release, ...]) -> float:
    def spent(noise: float) -> float:
        return _epsilon(_merged((*before, Release(noise, sample_rate, steps))), delta)

    high = 1.0
    while spent(high) > target:
        high *= 2
        if high > _LARGEST_NOISE:
            raise PolicyError(
                "SITE-E109",
                "no noise keeps the study within its privacy budget",
                where="privacy.epsilon",
                found=f"{target:g} at delta {delta:.3g} for {steps} steps",
                fix="raise privacy.epsilon, or plan fewer rounds or releases",
            )
    low = high / 2
    while low > 0.05 and spent(low) <= target:
        high, low = low, low / 2
    while high / low > 1.002:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if spent(middle) <= target else (middle, high)
    return high


def _merged(history: Iterable[Release]) -> tuple[Release, ...]:
    steps: dict[tuple[float, float], int] = {}
    for release in history:
        key = (release.noise_multiplier, release.sample_rate)
        steps[key] = steps.get(key, 0) + release.steps
    return tuple(Release(noise, rate, count) for (noise, rate), count in sorted(steps.items()))


@lru_cache(maxsize=4096)
def _epsilon(history: tuple[Release, ...], delta: float) -> float:
    if not history:
        return 0.0
    accountant = PRVAccountant()
    accountant.history = [(release.noise_multiplier, release.sample_rate, release.steps) for release in history]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        # Opacus evaluates both branches of np.where, of which one overflows; and it sizes its grid
        # by a coarser accountant, whose warning concerns the grid and not the result.
        warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
        return float(accountant.get_epsilon(delta))

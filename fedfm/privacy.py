"""Epsilon over all rounds, and the noise that keeps it below a target.

Everything is a Poisson-subsampled Gaussian mechanism, composed by Opacus's PRV accountant
(Gopi, Lee, Wutschitz 2021, arXiv:2106.02848), whose upper bound is what we report. Neighbouring
data sets differ in one unit (a patient, or a record) being there or not.

Steps in which every unit takes part are merged before: Gaussian mechanisms compose exactly into
one, whose mu is the root of the sum of squares (Dong, Roth, Su 2022, corollary 3.3). A ledger of
thousands of counts with noises of their own then costs one evaluation.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis.prv import (
    DiscretePRV,
    PoissonSubsampledGaussianPRV,
    TruncatedPrivacyRandomVariable,
    compose_heterogeneous,
    discretize,
)

from fedfm.errors import PolicyError
from fedfm.gaussian import epsilon_of

_PRV_SLACK = 0.05
"""The PRV bound lies above the exact epsilon by at most 0.03 (measured; its stated error is 0.01 each way)."""

SMALLEST_NOISE = 0.05
"""Least noise multiplier that is ever planned, however large the budget."""

_LARGEST_NOISE, _HOPELESS_EPSILON = 1e6, 1e4


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
    """Return an upper bound on epsilon after all releases of ``history``, at ``delta``; 0 for none, inf without noise.

    Guarantees:
        Never below the exact value. Equals Opacus's ``PRVAccountant`` on the same history: to 1e-6, to 1e-4
        where equal steps of rate 1 are merged, and within its stated error of 0.01 where different ones are.
        Depends neither on the order of releases nor on how equal steps are divided over releases, rounds,
        runs or restarts, to the last bit.
    """
    listed = list(history)
    if any(release.noise_multiplier <= 0 for release in listed):
        return math.inf
    return _epsilon(_merged(listed), delta)


def is_within(history: Iterable[Release], limit: float, delta: float) -> bool:
    """Tell whether ``epsilon(history, delta)`` is at most ``limit``, from cheap bounds where they decide.

    Guarantees:
        Never true where the real epsilon is above ``limit``. The answer depends on the arguments alone.
    """
    listed = list(history)
    if math.isinf(limit):
        return True
    if any(release.noise_multiplier <= 0 for release in listed):
        return False
    mu = mu_of(listed)
    if mu is not None:
        exact = epsilon_of(mu, delta)
        if exact > limit:
            return False
        if exact + _PRV_SLACK <= limit:
            return True
    return epsilon_near(limit, listed, delta) <= limit


def mu_of(history: Iterable[Release]) -> float | None:
    """Return mu of all releases together: sqrt(sum of steps / noise²). None where sampling makes it inexact."""
    total = 0.0
    for release in history:
        if release.sample_rate < 1:
            return None
        if release.noise_multiplier <= 0:
            return math.inf
        total += release.steps / release.noise_multiplier**2
    return math.sqrt(total)


def plan_noise(target: float, delta: float, *, sample_rate: float, steps: int, before: Sequence[Release] = ()) -> float:
    """Return about the smallest noise multiplier that keeps all steps within ``target``.

    Args:
        target: Epsilon that may not be passed; > 0.
        delta: Chance of failure, in (0, 1).
        sample_rate: Of the steps to plan, in (0, 1].
        steps: All steps of all rounds to come.
        before: Releases on the same units that count against the same target.

    Guarantees:
        ``epsilon([*before, Release(result, sample_rate, steps)], delta)`` is at most ``target``
        and, but where a coarser accountant stops it or 0.05 noise is enough, at least 99 % of it.

    Raises:
        PolicyError: ``before`` alone uses up the target.
    """
    return _plan_noise(target, delta, sample_rate, steps, _merged(before))


@lru_cache(maxsize=256)  # a pure function; searching takes part of a second, and every round asks again
def _plan_noise(target: float, delta: float, sample_rate: float, steps: int, before: tuple[Release, ...]) -> float:
    """Search on log(noise) against log(epsilon), which is nearly a straight line: a handful of evaluations."""
    if before and not is_within(before, target, delta):
        raise _impossible(target, delta, steps)
    aim = math.log(0.995 * target)
    too_little: tuple[float, float] | None = None  # log noise, log epsilon
    enough: tuple[float, float] | None = None
    noise = max(1.0, sample_rate * math.sqrt(2 * steps * math.log(1.25 / delta)) / target)
    while noise <= _LARGEST_NOISE:
        spent = epsilon_near(target, (*before, Release(noise, sample_rate, steps)), delta)
        spent = spent if math.isfinite(spent) else _HOPELESS_EPSILON  # the accountant gives up on too little noise
        point = (math.log(noise), math.log(spent))
        if spent > target:
            too_little = point
        elif spent >= 0.99 * target or noise <= SMALLEST_NOISE:
            return noise
        else:
            enough = point
        noise = math.exp(_next_guess(too_little, enough, aim))
        if too_little and enough and enough[0] - too_little[0] < 1e-4:  # numbers too coarse to come closer
            return math.exp(enough[0])
    raise _impossible(target, delta, steps)


def _impossible(target: float, delta: float, steps: int) -> PolicyError:
    return PolicyError(
        "SITE-E109",
        "no noise keeps the study within its privacy budget",
        where="privacy.epsilon",
        found=f"{target:g} at delta {delta:.3g} for {steps} steps",
        fix="raise privacy.epsilon, or plan fewer rounds or releases",
    )


def _next_guess(too_little: tuple[float, float] | None, enough: tuple[float, float] | None, aim: float) -> float:
    """Return the next log(noise): interpolated inside a bracket, else a step of slope -1 towards it."""
    if too_little and enough:
        width = enough[0] - too_little[0]
        share = (too_little[1] - aim) / (too_little[1] - enough[1])
        return too_little[0] + width * min(max(share, 0.05), 0.95)
    if too_little:
        return too_little[0] + max(too_little[1] - aim, 0.05)
    if enough:
        return max(enough[0] + max(enough[1] - aim, -0.5) - 0.01, math.log(SMALLEST_NOISE))
    raise ValueError("no point to start from")


def epsilon_near(target: float, history: Iterable[Release], delta: float) -> float:
    """Return epsilon, by a coarse and cheap bound where it is far above ``target``: there PRV's grid explodes."""
    merged = _merged(history)
    coarse = RDPAccountant()
    coarse.history = [(release.noise_multiplier, release.sample_rate, release.steps) for release in merged]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
        bound = float(coarse.get_epsilon(delta))
    return bound if not bound <= 5 * target else _epsilon(merged, delta)


def _merged(history: Iterable[Release]) -> tuple[Release, ...]:
    """Return the history with one release for each kind of sampled step, and one for all steps of rate 1."""
    steps: dict[tuple[float, float], int] = {}
    for release in history:
        key = (release.noise_multiplier, release.sample_rate)
        steps[key] = steps.get(key, 0) + release.steps
    merged = [Release(noise, rate, count) for (noise, rate), count in sorted(steps.items())]
    whole, sampled = (
        [release for release in merged if (release.sample_rate == 1) is is_whole] for is_whole in (True, False)
    )
    if len(whole) > 1 or any(release.steps > 1 for release in whole):
        inverse = math.fsum(release.steps / release.noise_multiplier**2 for release in whole)
        whole = [Release(1 / math.sqrt(inverse), 1.0, 1)]
    return (*whole, *sampled)


@lru_cache(maxsize=4096)
def _epsilon(history: tuple[Release, ...], delta: float) -> float:
    if not history:
        return 0.0
    accountant = _Accountant()
    accountant.history = [(release.noise_multiplier, release.sample_rate, release.steps) for release in history]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        # Opacus evaluates both branches of np.where, of which one overflows; and it sizes its grid
        # by a coarser accountant, whose warning concerns the grid and not the result.
        warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
        return max(float(accountant.get_epsilon(delta)), 0.0)  # below 0 where delta alone covers all


class _Truncated(TruncatedPrivacyRandomVariable):  # type: ignore[misc]  # Opacus has no types
    """Opacus's, with its mean by Gauss-Legendre in one vector, where Opacus spends most of its time in a loop."""

    def mean(self) -> float:
        """Return the mean: t_max - the integral of the distribution function from t_min to t_max.

        In pieces that are short against its steps: with z the privacy loss without sampling, which is a mixture of
        two normal distributions of deviation 1 / noise, t = log(1 - rate + rate e^z).
        """
        noise, rate = self._prv.noise_multiplier, self._prv.sample_rate
        reach = 1 / (2 * noise**2) + 12 / noise  # beyond it the distribution function is 0 or 1
        pieces = 2 * math.ceil(2 * reach * max(1.0, noise))
        z = np.linspace(-reach, reach, pieces + 1)
        steps = np.logaddexp(np.log1p(-rate), math.log(rate) + z)
        points = np.concatenate([[self.t_min], np.clip(steps, self.t_min, self.t_max), [self.t_max]])
        half, middle = np.diff(points) / 2, (points[1:] + points[:-1]) / 2
        values = self.cdf(middle[:, None] + half[:, None] * _NODES)
        return float(self.t_max - (half * (values @ _WEIGHTS)).sum())


class _Accountant(PRVAccountant):  # type: ignore[misc]
    def _get_dprv(self, eps_error: float, delta_error: float) -> DiscretePRV:
        variables = [PoissonSubsampledGaussianPRV(rate, noise) for noise, rate, _ in self.history]
        steps = [count for _, _, count in self.history]
        domain = self._get_domain(
            prvs=variables, num_self_compositions=steps, eps_error=eps_error, delta_error=delta_error
        )
        discrete = [discretize(_Truncated(each, domain.t_min, domain.t_max), domain) for each in variables]
        return compose_heterogeneous(dprvs=discrete, num_self_compositions=steps)


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)

"""Epsilon equals Opacus's accountant, and the planned noise is neither too little nor wasteful."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from fedfm.errors import PolicyError
from fedfm.privacy import Release, epsilon, plan_noise


def gaussian_epsilon(noise: float, steps: int, delta: float) -> float:
    """The exact epsilon of a composed Gaussian mechanism (Balle and Wang 2018, theorem 8)."""
    mu = math.sqrt(steps) / noise

    def excess(eps: float) -> float:
        return float(norm.cdf(-eps / mu + mu / 2) - math.exp(eps) * norm.cdf(-eps / mu - mu / 2) - delta)

    return float(brentq(excess, 0.0, 200.0))


def test_epsilon_of_nothing_is_zero() -> None:
    assert epsilon([], 1e-5) == 0.0


def test_epsilon_equals_opacus_on_the_joined_history() -> None:
    accountant = PRVAccountant()
    for _ in range(30):
        accountant.step(noise_multiplier=1.2, sample_rate=0.1)
    rounds = [Release(1.2, 0.1, 10)] * 3
    assert epsilon(rounds, 1e-5) == pytest.approx(accountant.get_epsilon(1e-5), abs=1e-6)


@given(parts=st.lists(st.integers(1, 9), min_size=1, max_size=5))
@settings(max_examples=10, deadline=None)
def test_epsilon_does_not_depend_on_how_steps_are_divided(parts: list[int]) -> None:
    divided = [Release(2.0, 0.25, part) for part in parts]
    assert epsilon(divided, 1e-4) == epsilon([Release(2.0, 0.25, sum(parts))], 1e-4)


@pytest.mark.parametrize(("noise", "steps"), [(5.0, 20), (2.0, 3), (1.0, 1)])
def test_full_batches_cost_what_the_exact_gaussian_formula_says(noise: float, steps: int) -> None:
    exact = gaussian_epsilon(noise, steps, 1e-4)
    assert exact <= epsilon([Release(noise, 1.0, steps)], 1e-4) <= exact + 0.03


@pytest.mark.parametrize(("target", "rate", "steps"), [(1.0, 1.0, 20), (3.0, 0.1, 40), (8.0, 0.25, 20), (3.0, 1.0, 1)])
def test_planned_noise_uses_the_budget_and_never_passes_it(target: float, rate: float, steps: int) -> None:
    noise = plan_noise(target, 1e-4, sample_rate=rate, steps=steps)
    spent = epsilon([Release(noise, rate, steps)], 1e-4)
    assert 0.97 * target <= spent <= target


def test_earlier_releases_count_against_the_same_target() -> None:
    before = [Release(4.0, 1.0, 1)]
    noise = plan_noise(2.0, 1e-4, sample_rate=1.0, steps=10, before=before)
    assert noise > plan_noise(2.0, 1e-4, sample_rate=1.0, steps=10)
    assert epsilon([*before, Release(noise, 1.0, 10)], 1e-4) <= 2.0


def test_a_target_that_is_used_up_is_refused() -> None:
    with pytest.raises(PolicyError, match="SITE-E109"):
        plan_noise(0.5, 1e-4, sample_rate=1.0, steps=10, before=[Release(1.0, 1.0, 1)])

"""Composition of mixed histories against Opacus's own accountant, unchanged, and against the exact closed form."""

import math
import random
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant
from opacus.accountants.analysis.prv import PoissonSubsampledGaussianPRV, TruncatedPrivacyRandomVariable

from fedfm.gaussian import epsilon_of
from fedfm.privacy import Release, _Truncated, epsilon, is_within, mu_of

STATED_ERROR = 0.01  # Opacus's eps_error: its upper bound may lie that far, on either side, from another valid one

noises = st.floats(0.8, 40.0)
full = st.lists(st.builds(Release, noises, st.just(1.0), st.integers(1, 20)), min_size=1, max_size=8)


def by_opacus(history: list[Release], delta: float) -> float:
    accountant = PRVAccountant()
    accountant.history = [(each.noise_multiplier, each.sample_rate, each.steps) for each in history]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta))


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.2, 0.1, 30), (4.0, 0.5, 12), (0.9, 0.02, 100)])
@pytest.mark.parametrize("delta", [1e-3, 1e-6])
def test_equal_sampled_steps_are_opacus_result(noise: float, rate: float, steps: int, delta: float) -> None:
    joined = [Release(noise, rate, steps)]
    divided = [Release(noise, rate, 1)] * (steps // 2) + [Release(noise, rate, steps - steps // 2)]
    assert epsilon(divided, delta) == epsilon(joined, delta)
    assert epsilon(joined, delta) == pytest.approx(by_opacus(joined, delta), abs=1e-6)


@pytest.mark.parametrize(("noise", "steps"), [(30.0, 40), (2.0, 5), (6.0, 1)])
def test_equal_full_batches_are_opacus_result(noise: float, steps: int) -> None:
    history = [Release(noise, 1.0, steps)]
    assert epsilon(history, 1e-5) == pytest.approx(by_opacus(history, 1e-5), abs=1e-4)


MIXED = {
    "rounds and counts": [Release(3.0, 0.2, 40), Release(25.0, 1.0, 5), Release(11.0, 1.0, 9), Release(9.0, 1.0, 1)],
    "two studies": [Release(2.5, 0.1, 30), Release(4.0, 0.3, 20), Release(12.0, 1.0, 1)],
    "full batches": [Release(20.0 + index, 1.0, 3) for index in range(12)],
}


@pytest.mark.parametrize("name", MIXED)
def test_mixed_histories_are_opacus_result_within_its_error(name: str) -> None:
    assert abs(epsilon(MIXED[name], 1e-5) - by_opacus(MIXED[name], 1e-5)) <= STATED_ERROR


@given(history=full, delta=st.sampled_from([1e-9, 1e-7, 1e-5, 1e-3, 1e-1]))
@settings(max_examples=60, deadline=None)
def test_full_batches_never_cost_less_than_the_exact_value(history: list[Release], delta: float) -> None:
    exact = epsilon_of(mu_of(history) or 0.0, delta)
    assert exact <= epsilon(history, delta) <= exact + 0.03


@given(history=full, share=st.floats(0.3, 2.0))
@settings(max_examples=60, deadline=None)
def test_a_limit_is_judged_as_epsilon_says(history: list[Release], share: float) -> None:
    limit = share * epsilon(history, 1e-4)
    assert is_within(history, limit, 1e-4) == (epsilon(history, 1e-4) <= limit)


@pytest.mark.parametrize("share", [0.5, 0.97, 0.9999, 1.0, 1.0001, 1.2])
def test_a_limit_on_sampled_steps_is_judged_as_epsilon_says(share: float) -> None:
    history = MIXED["two studies"]
    limit = share * epsilon(history, 1e-5)
    assert is_within(history, limit, 1e-5) == (share >= 1)


@given(history=st.lists(st.builds(Release, noises, st.sampled_from([0.1, 1.0]), st.integers(1, 9)), max_size=12))
@settings(max_examples=10, deadline=None)
def test_no_order_changes_a_bit(history: list[Release]) -> None:
    """Else a restart, which reads the ledger from the start, could judge otherwise than the trainer before it."""
    shuffled = random.Random(1).sample(history, len(history))
    one_by_one = [Release(each.noise_multiplier, each.sample_rate, 1) for each in history for _ in range(each.steps)]
    assert epsilon(history, 1e-5) == epsilon(shuffled, 1e-5) == epsilon(one_by_one, 1e-5)


def test_what_has_no_noise_has_no_bound() -> None:
    history = [Release(4.0, 1.0, 1), Release(0.0, 1.0, 1)]
    assert epsilon(history, 1e-5) == math.inf
    assert not is_within(history, 1e9, 1e-5)
    assert is_within(history, math.inf, 1e-5)


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("noise", [0.3, 1.0, 20.0, 1000.0])
@pytest.mark.parametrize("length", [3.1, 12.0, 90.0])
def test_the_fast_mean_is_opacus_mean(noise: float, rate: float, length: float) -> None:
    """It moves the whole distribution; Opacus finds it by adaptive integration of one number after the other."""
    variable = PoissonSubsampledGaussianPRV(rate, noise)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        slow = TruncatedPrivacyRandomVariable(variable, -length, length).mean()
        fast = _Truncated(variable, -length, length).mean()
    assert fast == pytest.approx(slow, abs=1e-6)

"""Each unit is in a step by a coin of its own."""

import numpy as np

from client_app.noise import secure_uniform
from client_app.sampling import poisson_sample


def test_every_unit_is_as_likely_and_independent() -> None:
    trials, units, rate = 4000, 10, 0.3
    hits = np.zeros((trials, units))
    for trial in range(trials):
        hits[trial, poisson_sample(units, rate, secure_uniform)] = 1
    standard_error = np.sqrt(rate * (1 - rate) / trials)
    assert np.abs(hits.mean(axis=0) - rate).max() < 4.5 * standard_error
    assert np.abs(np.corrcoef(hits.T) - np.eye(units)).max() < 4.5 / np.sqrt(trials)


def test_sizes_vary_and_may_be_zero() -> None:
    sizes = {len(poisson_sample(3, 0.2, secure_uniform)) for _ in range(400)}
    assert 0 in sizes
    assert len(sizes) > 2


def test_full_batch_takes_everyone_and_draws_nothing() -> None:
    def no_coins(_: int) -> np.ndarray:
        raise AssertionError("a full batch needs no coin")

    assert poisson_sample(5, 1.0, no_coins).tolist() == [0, 1, 2, 3, 4]

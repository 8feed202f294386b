"""Noise is standard normal, never repeats, and nothing can seed it."""

import random
import subprocess
import sys

import numpy as np
import torch
from scipy import stats

from client_app.noise import secure_normal, secure_uniform


def test_normal_draws_are_standard_normal() -> None:
    draws = secure_normal(200_001)
    assert len(draws) == 200_001
    assert stats.kstest(draws, "norm").pvalue > 1e-4
    assert abs(draws.std() - 1) < 4 / np.sqrt(2 * len(draws))


def test_uniform_draws_never_reach_zero() -> None:
    draws = secure_uniform(100_000)
    assert draws.min() > 0
    assert draws.max() <= 1
    assert stats.kstest(draws, "uniform").pvalue > 1e-4


def test_no_seed_fixes_the_noise() -> None:
    found = []
    for _ in range(2):
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        found.append(secure_normal(1000))
    assert abs(np.corrcoef(found[0], found[1])[0, 1]) < 4 / np.sqrt(1000)


def test_no_environment_fixes_the_noise() -> None:
    code = "from client_app.noise import secure_normal; print(secure_normal(1)[0])"
    environment = {"PYTHONHASHSEED": "0", "SEED": "1", "PL_GLOBAL_SEED": "1"}
    printed = {
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(printed) == 2

"""Noise is standard normal, never repeats, and nothing can seed it; what it is added to ends on a public grid."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from client_app.noise import on_grid, secure_normal, secure_uniform
from fedfm.config.settings import settings_of
from fedfm.config.site import Site
from fedfm.config.study import Study


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


def test_no_setting_of_study_or_site_seeds_anything_but_the_public_start() -> None:
    words = ("seed", "random_state", "generator", "rng", "entropy", "nonce")
    named = {
        setting.path
        for schema in (Study, Site)
        for setting in settings_of(schema)
        if any(word in f"{setting.path} {setting.rule['meaning']}".lower() for word in words)
    }
    assert named == {"seed"}  # that it leaves the noise alone: test_private_updates.py


def test_many_pieces_of_the_stream_do_not_repeat() -> None:
    draws = secure_uniform(200_000)
    assert len(np.unique(draws)) == len(draws)
    assert abs(np.corrcoef(draws[:100_000], draws[100_000:])[0, 1]) < 4 / np.sqrt(100_000)


@pytest.mark.parametrize("scale", [1e-9, 0.05, 1.0, 37.5])
def test_noised_sums_end_on_the_grid_whatever_the_sum(scale: float) -> None:
    step = 2.0 ** np.floor(np.log2(scale)) / 4096
    assert scale / 8192 < step <= scale / 4096
    for exact in (0.0, 1 / 3, np.pi * scale):
        noised = torch.from_numpy(secure_normal(1000)) * scale + exact
        points = on_grid(noised, scale)
        assert torch.equal(points / step, (points / step).round())
        assert float((points - noised).abs().max()) <= step / 2
        # exact in float32 too, as it travels, unless the sum is thousands of times the noise
        assert torch.equal(points.float().double(), points) or exact > 1000 * scale


def test_neighbouring_sums_reach_the_same_grid_points() -> None:
    """What Mironov's attack reads: numbers that the noise reaches from one sum and not from its neighbour."""
    scale, count = 1.0, 400_000
    near = [on_grid(torch.from_numpy(secure_normal(count)) + exact, scale) for exact in (0.1, 0.1 + 1e-13)]
    middle = [set(points[(points.abs() < 0.02)].tolist()) for points in near]
    assert len(middle[0] ^ middle[1]) == 0
    raw = [torch.from_numpy(secure_normal(1000)) + exact for exact in (0.1, 0.1 + 1e-13)]
    assert not set(raw[0].tolist()) & set(raw[1].tolist())


def test_without_noise_there_is_no_grid() -> None:
    exact = torch.tensor([1 / 3], dtype=torch.float64)
    assert torch.equal(on_grid(exact, 0.0), exact)

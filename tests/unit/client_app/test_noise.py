"""Noise is standard normal, never repeats, and nothing can seed it; what it is added to ends on a public grid."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from client_app.noise import noised, secure_normal, secure_uniform
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
    for exact in (0.0, 1 / 3 * scale, np.pi * scale):
        points = noised(torch.full((20_000,), exact, dtype=torch.float64), scale)
        assert torch.equal(points / step, (points / step).round())
        assert torch.equal(points.float().double(), points)  # exact as it travels, too
        assert float(points.mean()) == pytest.approx(exact, abs=4 * scale / 20_000**0.5)
        assert float(points.std()) == pytest.approx(scale, rel=4 / 40_000**0.5)


def test_neighbouring_sums_reach_the_same_grid_points() -> None:
    """What Mironov's attack reads: numbers that the noise reaches from one sum and not from its neighbour."""
    count, sums = 400_000, (0.1, 0.1 + 1e-13)
    near = [noised(torch.full((count,), exact, dtype=torch.float64), 1.0) for exact in sums]
    middle = [set(points[points.abs() < 0.02].tolist()) for points in near]
    assert middle[0] == middle[1]
    raw = [torch.from_numpy(secure_normal(1000)) + exact for exact in sums]
    assert not set(raw[0].tolist()) & set(raw[1].tolist())


def test_without_noise_the_sum_stays_as_it_is() -> None:
    exact = torch.tensor([1 / 3], dtype=torch.float64)
    assert torch.equal(noised(exact, 0.0), exact)


@pytest.mark.parametrize("count", [0, 1, 2, 65_535, 65_537, 131_073])
def test_any_number_of_draws_is_drawn(count: int) -> None:
    assert len(secure_normal(count)) == len(secure_uniform(count)) == count
    assert count < 2 or len(np.unique(secure_normal(count))) > 0.999 * count

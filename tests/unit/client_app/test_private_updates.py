"""Updates of whole sites, through the trainer's own path: noise of their own, whatever is configured alike."""

from pathlib import Path

import numpy as np
import pytest

from client_app.trainer.warm import Trainer
from fedfm.arrays import Arrays
from fedfm.config.compose import load_site
from tests.integration.conftest import request, write_hospital

CHANGES = ("privacy.epsilon=1", "training.local_steps=1", "training.learning_rate=1", "training.momentum=0")


POLICY = "max_epsilon: 100"  # for many runs on one ledger


@pytest.fixture(scope="module")
def site_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hospital(tmp_path_factory.mktemp("hospital"), policy=POLICY)


def updates(site_file: Path, *, runs: int, name: str, overrides: tuple[str, ...] = ()) -> np.ndarray:
    """Updates of the first round of so many runs, as rows."""
    site, changes = load_site(site_file), (*CHANGES, *overrides)
    site.state = str(site_file.parent / name)
    trainer = Trainer(site)
    trainer.describe(request(1, {}, *changes))
    start: Arrays = trainer._warm[1].start  # type: ignore[index]
    replies = [trainer.train(request(1, start, *changes, run=f"run-{run}")) for run in range(runs)]
    return np.array([np.concatenate([array.ravel() for array in reply.update.values()]) for reply in replies])


def residuals(found: np.ndarray) -> np.ndarray:
    """What differs from run to run: the noise, less its mean over the runs."""
    rest: np.ndarray = (found - found.mean(axis=0)).ravel()
    return rest


@pytest.mark.slow
def test_two_sites_alike_in_all_add_noise_of_their_own(site_file: Path) -> None:
    """Equal data, equal configuration, equal seed: run by run, the noise of one says nothing of the other's."""
    first, second = (updates(site_file, runs=9, name=name) for name in ("a", "b"))
    correlation = np.corrcoef(residuals(first), residuals(second))[0, 1]
    assert abs(correlation) < 4 / (first.size * 8 / 9) ** 0.5


@pytest.mark.slow
def test_subtracting_two_sites_updates_reveals_nothing_planted(site_file: Path, tmp_path: Path) -> None:
    """Had both sites the same noise, the difference of their updates would be the planted patient alone."""
    planted_file = write_hospital(tmp_path / "planted", patients=81, policy=POLICY)  # one patient more
    plain, planted = (updates(file, runs=5, name="plant") for file in (site_file, planted_file))
    differences = plain - planted
    own, longest = plain.std(axis=0, ddof=1).mean(), 1 / 60  # a patient's clipped gradient, as a step: rate / declared
    assert np.linalg.norm(differences, axis=1).min() > 5 * longest
    assert differences.std(axis=0, ddof=1).mean() == pytest.approx(2**0.5 * own, rel=0.25)  # two noises


@pytest.mark.slow
def test_the_studys_seed_leaves_the_noise_alone(site_file: Path) -> None:
    seven, eight = (updates(site_file, runs=6, name=f"s{seed}", overrides=(f"seed={seed}",)) for seed in (7, 8))
    assert residuals(seven).std() == pytest.approx(residuals(eight).std(), rel=0.25)
    correlation = np.corrcoef(residuals(seven), residuals(eight))[0, 1]
    assert abs(correlation) < 4 / (seven.size * 5 / 6) ** 0.5

"""A site that computes on a GPU: the device of its file, the steps of the CPU, no more memory than estimated."""

from pathlib import Path

import numpy as np
import pytest
import torch

from client_app.cohorts import Prepared, prepare
from client_app.memory import MOST, bytes_of_example, free_bytes
from client_app.noise import secure_uniform
from client_app.private_step import Mechanism
from client_app.trainer.warm import Trainer
from client_app.training import fine_tune_by_unit
from fedfm.config.compose import compose_study, load_site
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.parameters import trainable
from tests.integration.conftest import TINY, request, write_hospital

COUNT = torch.cuda.device_count() if torch.cuda.is_available() else 0

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(COUNT < 1, reason="needs a CUDA device, and torch sees none"),
]
needs_two = pytest.mark.skipif(COUNT < 2, reason=f"needs two CUDA devices, and torch sees {COUNT}")

LORA = ["model=tiny", "adapter=ffa_lora", "rounds=3", "min_sites=2", "training.sample_rate=1", "training.local_steps=2"]


def site_on(device: str, folder: Path, *, micro_batch: int = 16) -> Site:
    file = write_hospital(folder)
    text = file.read_text().replace("micro_batch: 16", f"micro_batch: {micro_batch}")
    file.write_text(f'device: "{device}"\n{text}')
    return load_site(file)


def study_of(*overrides: str) -> Study:
    return compose_study([*LORA, *overrides]).value


def stepped(prepared: Prepared, study: Study) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    """The parameters after the round's steps, clipped and without noise."""
    mechanism = Mechanism(0.0, study.privacy.max_grad_norm or 1.0, expected_units=60)
    fine_tune_by_unit(
        prepared.model,
        prepared.train,
        training=study.training,
        mechanism=mechanism,
        micro_batch=prepared.micro_batch,
        uniform=secure_uniform,
    )
    return trainable(prepared.model)


def devices_of(prepared: Prepared) -> set[str]:
    return {str(parameter.device) for parameter in prepared.model.parameters()}


@pytest.mark.parametrize("device", ["cuda", "cuda:0", pytest.param("cuda:1", marks=needs_two)])
def test_steps_on_the_gpu_are_those_on_the_cpu(device: str, tmp_path: Path) -> None:
    study = study_of()
    here = prepare(site_on("cpu", tmp_path / "cpu"), study)
    there = prepare(site_on(device, tmp_path / "gpu"), study)
    assert devices_of(there) == {device if ":" in device else "cuda:0"}
    expected, found, start = stepped(here, study), stepped(there, study), here.start
    for name, array in expected.items():
        moved = np.linalg.norm(array - start[name])
        assert moved > 0, name
        assert np.linalg.norm(found[name] - array) <= 1e-3 * moved, name


@pytest.mark.parametrize("device", ["cuda:0", pytest.param("cuda:1", marks=needs_two)])
def test_a_whole_round_with_noise_reasons_and_counts(device: str, tmp_path: Path) -> None:
    trainer = Trainer(site_on(device, tmp_path))
    assert trainer.describe(request(0, {})).device == "cuda"
    start = trainable(prepare(site_on("cpu", tmp_path / "cpu"), compose_study(TINY).value).model)
    reply = trainer.train(request(1, start))
    assert all(np.isfinite(array).all() for array in reply.update.values())
    assert reply.privacy.train > 0
    assert trainer.evaluate(request(3, start)).cells.shape == (2, 10)


@pytest.mark.parametrize("device", ["cuda:0", pytest.param("cuda:1", marks=needs_two)])
def test_a_step_takes_no_more_memory_than_estimated(device: str, tmp_path: Path) -> None:
    where, study = torch.device(device), study_of("adapter=full")
    prepared = prepare(site_on(device, tmp_path, micro_batch=0), study)
    assert 1 <= prepared.micro_batch <= MOST["cuda"]
    longest = max(prepared.train.states, key=lambda state: state.numel())
    estimated = prepared.micro_batch * bytes_of_example(prepared.model, longest)
    assert estimated <= free_bytes(where) or prepared.micro_batch == 1
    torch.cuda.reset_peak_memory_stats(where)
    before = torch.cuda.memory_allocated(where)
    stepped(prepared, study)
    workspace = 64 * 2**20  # of the matrix library, once
    assert torch.cuda.max_memory_allocated(where) - before <= estimated + workspace


@needs_two
def test_one_device_does_not_touch_the_other(tmp_path: Path) -> None:
    before = torch.cuda.memory_allocated(0)
    prepared = prepare(site_on("cuda:1", tmp_path), study_of())
    stepped(prepared, study_of())
    assert torch.cuda.memory_allocated(0) == before

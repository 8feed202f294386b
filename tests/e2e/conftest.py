"""A small federation on the real engine, with a recording relay between one site and the coordinator."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from scripts.engine import processes
from scripts.engine.federation import Federation, prepare
from scripts.engine.launching import await_sites, launch
from server_app.demo_data import make_demo_data
from tests.e2e.relay import Relay

TINY = "experiment=demo model=tiny adapter=head explainability=none"


def write_hospitals(folder: Path, *, sites: int = 2) -> list[Path]:
    """Write hospitals of 60 patients that accept a model with random weights."""
    files = make_demo_data(folder, sites=sites, patients=60)
    for file in files:
        content = OmegaConf.load(file)
        OmegaConf.update(content, "policy.allow_random_weights", value=True, force_add=True)
        OmegaConf.update(content, "policy.allow_no_privacy", value=True, force_add=True)
        OmegaConf.update(content, "policy.max_epsilon", 50.0)
        OmegaConf.save(content, file)
    return files


@contextmanager
def hospitals_online(state: Path, *, sites: int) -> Iterator[Federation]:
    """Run a federation of tiny hospitals until the block ends; runs go to ``state/results``."""
    prepared = prepare(write_hospitals(state / "data", sites=sites), state, results=state / "results")
    try:
        launch(prepared)
        await_sites(prepared)
        yield prepared
    finally:
        processes.stop(prepared.record)


@pytest.fixture(scope="module")
def relay() -> Iterator[Relay]:
    """What records the traffic of the first site."""
    with Relay() as started:
        yield started


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory, relay: Relay) -> Iterator[Federation]:
    """Two tiny hospitals, online; the first reaches the coordinator through the relay. Runs go to ``results``."""
    state = tmp_path_factory.mktemp("federation")
    prepared = prepare(write_hospitals(state / "data"), state, results=state / "results")
    first, *others = prepared.sites
    relay.target = prepared.fleet
    prepared = replace(prepared, sites=(replace(first, fleet=relay.address), *others))
    try:
        launch(prepared)
        await_sites(prepared)
        yield prepared
    finally:
        processes.stop(prepared.record)

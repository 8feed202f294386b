"""Flower starts a process for each message to a site: what the ClientApp imports is paid for in each round."""

import json
import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "transformers", "peft", "opacus", "pandas", "pyarrow", "hydra", "omegaconf", "sklearn", "scipy")


def loaded_by(module: str) -> set[str]:
    """Names of the top-level packages that a fresh interpreter has after importing a module."""
    code = f"import json, sys, {module}; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def seconds(module: str) -> float:
    """Wall time of a fresh interpreter that imports a module."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - start


def test_the_client_app_imports_nothing_heavy() -> None:
    assert loaded_by("client_app.app") & set(HEAVY) == set()


def test_the_check_above_sees_a_heavy_import() -> None:
    assert {"hydra", "omegaconf"} <= loaded_by("fedfm.config.compose") & set(HEAVY)


@pytest.mark.slow
def test_the_client_app_costs_little_more_than_flower_itself() -> None:
    seconds("client_app.app")  # reads the files once, so that the disk is not measured
    ours, flower = zip(*((seconds("client_app.app"), seconds("flwr.clientapp")) for _ in range(3)), strict=True)
    assert min(ours) <= 1.5 * min(flower), f"{min(ours):.2f} s against {min(flower):.2f} s"

"""The micro-batch follows the free memory, within its bounds, and the site's own number stands."""

from pathlib import Path

import pytest
import torch

from client_app import memory
from client_app.memory import MOST, bytes_of_example, free_bytes, micro_batch_of
from fedfm.model.build import build_model
from tests.unit.fedfm.model_cases import FIT, NOTES


@pytest.mark.parametrize(("free", "expected"), [(0, 1), (10, 5), (10_000, MOST["cpu"])])
def test_half_of_the_free_memory_is_used(free: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(*FIT["bert-lora"][:3], seed=1)
    states = model.encode(NOTES)
    one = max(bytes_of_example(model, state) for state in states)
    monkeypatch.setattr(memory, "free_bytes", lambda _device: free * one)
    assert micro_batch_of(model, states, wanted=0) == expected


def test_the_sites_number_stands_whatever_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(*FIT["bert-head"][:3], seed=1)
    monkeypatch.setattr(memory, "free_bytes", lambda _device: 0)
    assert micro_batch_of(model, model.encode(NOTES), wanted=300) == 300
    assert micro_batch_of(model, [], wanted=0) == MOST["cpu"]


@pytest.mark.parametrize("name", ["bert-lora-all", "bert-full", "bert-dora"])
def test_longer_notes_and_more_trained_layers_take_more(name: str) -> None:
    model = build_model(*FIT[name][:3], seed=1)
    assert bytes_of_example(model, torch.randn(60, 32)) > 1.9 * bytes_of_example(model, torch.randn(30, 32)) * 0.9
    head = build_model(*FIT["bert-head"][:3], seed=1)
    assert bytes_of_example(model, torch.randn(30, 32)) > bytes_of_example(head, torch.randn(32))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    without = free_bytes(torch.device("cpu"))
    assert without > 0
    (tmp_path / "memory.current").write_text("600000\n")
    (tmp_path / "memory.max").write_text("1000000\n")
    assert free_bytes(torch.device("cpu")) == 400_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes(torch.device("cpu")) > 400_000

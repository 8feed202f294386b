"""The device of the site file is the one that computes; one that is not there is refused, with how many there are."""

from pathlib import Path

import pytest
import torch

from client_app.cohorts import device_of
from client_app.memory import free_bytes
from fedfm.config.compose import load_site
from fedfm.config.site import Site
from fedfm.errors import ConfigErrors, DataError
from tests.integration.conftest import write_hospital


def site_with(device: str, folder: Path) -> Site:
    file = write_hospital(folder, patients=2)
    file.write_text(f"device: {device}\n{file.read_text()}")
    return load_site(file)


def machine(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("device", "count", "expected"),
    [
        ("auto", 0, "cpu"),
        ("auto", 1, "cuda:0"),
        ("auto", 4, "cuda:0"),
        ("cpu", 4, "cpu"),
        ("cuda", 1, "cuda:0"),
        ("cuda:0", 1, "cuda:0"),
        ("cuda:3", 4, "cuda:3"),
        ("cuda:10", 16, "cuda:10"),
    ],
)
def test_a_device_that_is_there_computes(
    device: str, count: int, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(count, monkeypatch)
    assert str(device_of(site_with(device, tmp_path))) == expected


@pytest.mark.parametrize(
    ("device", "count", "told", "allowed"),
    [
        ("cuda", 0, "0 CUDA devices", "allowed: auto or cpu —"),
        ("cuda:0", 0, "0 CUDA devices", "allowed: auto or cpu —"),
        ("cuda:1", 1, "1 CUDA devices", "allowed: auto, cpu or cuda:0 —"),
        ("cuda:4", 4, "4 CUDA devices", "allowed: auto, cpu or cuda:0 to cuda:3 —"),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    device: str, count: int, told: str, allowed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(count, monkeypatch)
    with pytest.raises(DataError, match=r"^SITE-E130 .*\bdevice\b") as caught:
        device_of(site_with(device, tmp_path))
    assert f"device: {device}, and {told}" in str(caught.value)
    assert allowed in str(caught.value)


@pytest.mark.parametrize("device", ["gpu", "'cuda:'", "cuda:-1", "cuda:01", "cuda:1,2", "cuda0", "CUDA", "mps", '""'])
def test_a_word_that_names_no_device_is_no_setting(device: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match=r"SITE-E007.*device"):
        site_with(device, tmp_path)


def test_what_torch_holds_of_a_gpu_and_does_not_use_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def of(amount: int) -> object:
        return lambda device: asked.append(str(device)) or amount

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (asked.append(str(device)) or 1_000, 9_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", of(500))
    monkeypatch.setattr(torch.cuda, "memory_allocated", of(200))
    assert free_bytes(torch.device("cuda", 1)) == 1_300
    assert asked == ["cuda:1"] * 3

"""A saved adapter is whole or refused, and gives the same logits."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fedfm.errors import ModelError
from fedfm.examples import Example
from fedfm.model.build import build_model, load_adapter, save_adapter
from fedfm.model.classifier import Classifier
from tests.unit.fedfm.model_cases import FIT, shaken

Built = tuple[Classifier, list[Example]]


@pytest.fixture(params=list(FIT.values()), ids=list(FIT))
def built(request: pytest.FixtureRequest) -> Built:
    model, adapter, task, examples = request.param
    return build_model(model, adapter, task, seed=3), examples


def test_save_and_load_give_equal_logits(built: Built, tmp_path: Path) -> None:
    model, examples = built
    shaken(model)
    save_adapter(model, tmp_path / "run" / "adapter")
    loaded = load_adapter(tmp_path / "run" / "adapter")
    assert torch.equal(loaded(loaded.encode(examples)), model(model.encode(examples)))
    assert loaded.recipe == model.recipe
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["adapter"]
    described = json.loads((tmp_path / "run" / "adapter" / "fedfm.json").read_text())
    assert described["labels"] == model.recipe.task.labels


def test_save_replaces_what_stood_there(tmp_path: Path) -> None:
    first, second = (build_model(*FIT["bert-head"][:3], seed=seed) for seed in (1, 2))
    save_adapter(first, tmp_path / "adapter")
    (tmp_path / "adapter" / "stray").write_text("x")
    save_adapter(second, tmp_path / "adapter")
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        ["adapter", "README.md", "fedfm.json", "trainable.safetensors"]
    )
    assert torch.equal(load_adapter(tmp_path / "adapter").head.weight, second.head.weight)


def test_a_failed_save_leaves_what_stood_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(*FIT["bert-lora"][:3], seed=1)
    save_adapter(model, tmp_path / "adapter")

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fedfm.model.saved.save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_adapter(model, tmp_path / "adapter")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    monkeypatch.undo()
    load_adapter(tmp_path / "adapter")


def spoil_json(folder: Path) -> None:
    (folder / "fedfm.json").write_text("{")


def spoil_version(folder: Path) -> None:
    described = json.loads((folder / "fedfm.json").read_text())
    (folder / "fedfm.json").write_text(json.dumps(described | {"format_version": 99}))


def spoil_rank(folder: Path) -> None:
    described = json.loads((folder / "fedfm.json").read_text())
    described["adapter"]["rank"] += 1
    (folder / "fedfm.json").write_text(json.dumps(described))


def spoil_head(folder: Path) -> None:
    (folder / "head.safetensors").unlink()


def spoil_factors(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])


@pytest.mark.parametrize("spoil", [spoil_json, spoil_version, spoil_rank, spoil_head, spoil_factors])
def test_a_damaged_adapter_is_refused(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    save_adapter(build_model(*FIT["bert-ffa_lora"][:3], seed=1), tmp_path / "adapter")
    spoil(tmp_path / "adapter")
    with pytest.raises(ModelError, match="MODEL-E148"):
        load_adapter(tmp_path / "adapter")

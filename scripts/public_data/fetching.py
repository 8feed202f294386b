"""Get a file whole and unaltered, or say what is wrong; never leave half of one."""

import hashlib
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_SECONDS = 60
TRIES = 3
_BLOCK = 1 << 20


class FetchError(Exception):
    """A file is absent, altered or could not be downloaded; the message says which, and what to do."""


@dataclass(frozen=True)
class PublicFile:
    """A file of a public data set.

    Attributes:
        name: Path below the data set's folder.
        url: Where it is published; empty where it is only taken from a folder.
        sha256: Of the whole file; empty where the publisher's own list says it.
        sums_url: The publisher's list of SHA-256 sums, for files without a pinned one.
    """

    name: str
    url: str = ""
    sha256: str = ""
    sums_url: str = ""


def check_folder(files: Sequence[PublicFile], folder: Path) -> None:
    """Return only if every file lies in ``folder`` and has its SHA-256.

    Raises:
        FetchError: One is absent, or another than expected.
    """
    for file in files:
        path = folder / file.name
        if not path.is_file():
            raise FetchError(f"{path} is missing; get it from its home, or leave --from out to download it")
        _check(path, file.sha256, file.name)


def download(files: Sequence[PublicFile], folder: Path) -> None:
    """Have every file in ``folder``: those already there and unaltered are kept, the others downloaded.

    A file appears under its name only when it is whole and its SHA-256 is right.

    Raises:
        FetchError: A home does not answer, or a file is another than expected; nothing half-done is left.
    """
    published: dict[str, dict[str, str]] = {}
    for file in files:
        path = folder / file.name
        expected = file.sha256
        if not expected:
            if file.sums_url not in published:
                published[file.sums_url] = _published_sums(file.sums_url)
            expected = published[file.sums_url].get(file.url.rsplit("/", 1)[-1], "")
            if not expected:
                raise FetchError(f"{file.sums_url} lists no checksum of {file.name}; it cannot be checked")
        if path.is_file() and sha256_of(path) == expected:
            continue
        print(f"  downloading {file.url}")
        _download_one(file, path, expected)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(path: Path, expected: str, name: str) -> None:
    found = sha256_of(path)
    if found != expected:
        raise FetchError(f"{name} is not the expected file: SHA-256 {found}, expected {expected}; get it again")


def _published_sums(url: str) -> dict[str, str]:
    """Return file name to SHA-256 from a list such as PhysioNet's ``SHA256SUMS.txt``."""
    lines = b"".join(_blocks(url)).decode("utf-8").splitlines()
    found = (re.fullmatch(r"([0-9a-f]{64})[ \t]+\*?(?:.*/)?([^/]+)", line.strip()) for line in lines)
    return {match[2]: match[1] for match in found if match}


def _download_one(file: PublicFile, path: Path, expected: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as sink:
            for block in _blocks(file.url):
                sink.write(block)
        _check(part, expected, file.name)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _blocks(url: str) -> list[bytes]:
    """Return the content behind an address, in blocks, after a few tries."""
    problem = ""
    for _ in range(TRIES):
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - our own addresses
                return list(iter(lambda: answer.read(_BLOCK), b""))
        except urllib.error.HTTPError as error:
            problem = f"status {error.code}"
            error.close()
            if error.code < 500:
                break
        except OSError as error:
            problem = str(error)
    raise FetchError(f"{url} could not be downloaded ({problem}); try again later, or use --from DIR")

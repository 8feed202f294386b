"""A copy of a site's sealed files, as it is written and read: a folder, or a ``.zip``. Free of torch.

Who verifies a copy may have been sent anything: it is read within bounds, and never unpacked to disk.
"""

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from fedfm.errors import DataError

HEADS, SUMS = "heads.json", "SHA256SUMS"

LARGEST, MOST = 2**30, 100
"""Bytes of all files of a copy together, and their number, that are read."""

_BROKEN = (OSError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)
"""What a file that was cut, changed or made to be no copy ends in; ``RuntimeError``: it asks for a password."""


def sums(content: Mapping[str, bytes]) -> bytes:
    """Return the lines of ``SHA256SUMS`` for the files, by name."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(content.items())).encode()


def write(path: Path, content: Mapping[str, bytes]) -> None:
    """Write the files as one ``.zip`` or as a folder.

    Raises:
        DataError: It cannot be written, or is there already (SITE-E154).
    """
    try:
        if path.suffix != ".zip":
            path.mkdir(parents=True)
            for name, data in content.items():
                (path / name).write_bytes(data)
            return
        with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as copy:
            for name, data in content.items():
                copy.writestr(name, data)
    except OSError as error:
        raise unusable("written", path, error.strerror or type(error).__name__) from error


def read(path: Path) -> dict[str, bytes]:
    """Return the files of a copy, by name.

    Raises:
        DataError: It cannot be read, is larger than ``LARGEST`` and ``MOST`` allow, or is no copy (SITE-E154).
    """
    try:
        content = dict(_of_folder(path) if path.is_dir() else _of_zip(path))
    except _BROKEN as error:
        raise unusable("read", path, getattr(error, "strerror", None) or type(error).__name__) from error
    if not {HEADS, SUMS} <= set(content):
        raise unusable("read", path, "no copy of an audit log")
    return content


def unusable(how: str, path: Path, found: str) -> DataError:
    """Return the error of a copy that cannot be ``read`` or ``written``."""
    return DataError(
        "SITE-E154",
        f"a copy of the audit log cannot be {how}",
        where=str(path),
        found=found,
        fix="name a new file ending in .zip, or a new folder, that this user may write"
        if how == "written"
        else "name what fedfm-site audit export has written",
    )


def _of_folder(path: Path) -> Iterator[tuple[str, bytes]]:
    files = sorted(file for file in path.iterdir() if file.is_file())
    _check(path, [file.stat().st_size for file in files])
    yield from ((file.name, file.read_bytes()) for file in files)


def _of_zip(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as copy:
        members = copy.infolist()
        _check(path, [member.file_size for member in members])
        if len({member.filename for member in members}) < len(members):
            raise unusable("read", path, "one name for two files")
        # of these two alone no more is unpacked than the member's size
        if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
            raise unusable("read", path, "a compression that no export has")
        for member in members:
            yield member.filename, copy.read(member)


def _check(path: Path, sizes: list[int]) -> None:
    if len(sizes) > MOST or sum(sizes) > LARGEST:
        raise unusable(
            "read", path, f"{len(sizes)} files of {sum(sizes)} bytes, beyond {MOST} files or {LARGEST} bytes"
        )

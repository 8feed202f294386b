"""A site's sealed files, verified where they lie or in a copy, and that copy. Free of torch.

A copy is a folder or a ``.zip``: the files as they are, ``heads.json`` with the length and the last seal of each, and
``SHA256SUMS``. It holds kinds, sizes, hashes and charges, as the files themselves do; nothing of a patient.
"""

import datetime
import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from client_app import approvals, audit_log
from client_app.chain import Chain
from client_app.own_files import ledger_name
from client_app.seals import START, line_of, verified
from fedfm.config.policy import policy_hash
from fedfm.config.site import Site
from fedfm.errors import DataError
from fedfm.wire import Head

HEADS, SUMS = "heads.json", "SHA256SUMS"

_LARGEST = 2**30  # bytes of one file of a copy; who verifies may have been sent anything


@dataclass(frozen=True)
class Verified:
    """What was found of one file.

    Attributes:
        name: Of the file.
        head: Length and last seal, as far as the file is whole.
        problem: Why it is not; names the line. None where it is whole.
        seals: Seal of each entry that is whole, in order.
    """

    name: str
    head: Head
    problem: DataError | None
    seals: tuple[str, ...]

    def holds(self, anchor: Head) -> bool:
        """Whether the file is whole and goes on from this head, which was told before."""
        return self.problem is None and self.seals[anchor.entries - 1 : anchor.entries] == (anchor.seal,)


def of_site(site: Site) -> list[Verified]:
    """Return what is found of the site's audit log and ledger, and of its approvals where there are any.

    Raises:
        DataError: A file cannot be read (SITE-E150).
    """
    return [_verified(name, chain) for name, chain in _chains(site).items()]


def of_copy(path: Path) -> list[Verified]:
    """Return what is found of the files of a copy.

    Raises:
        DataError: The copy cannot be read, or is no copy (SITE-E154).
    """
    content = _read(path)
    return [_of_bytes(name, content[name], path) for name in sorted(content) if name.endswith(".jsonl")] + [
        _of_list(content, path)
    ]


def export(site: Site, path: Path) -> list[Verified]:
    """Write a copy of the site's sealed files, as one ``.zip`` or as a folder; return what was found of them.

    Raises:
        DataError: A file is damaged, or the copy cannot be written; nothing is overwritten.
    """
    found = of_site(site)
    for one in found:
        if one.problem is not None:
            raise one.problem
    content = {name: b"".join(map(line_of, chain.read())) for name, chain in _chains(site).items()}
    told = {
        "site": site.id,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "fedfm": version("fedfm"),
        "policy": policy_hash(site.policy),
        "heads": {one.name: one.head._asdict() for one in found},
    }
    content[HEADS] = json.dumps(told, indent=2).encode() + b"\n"
    content[SUMS] = _sums(content)
    try:
        _write(path, content)
    except OSError as error:
        raise _unusable("written", path, error.strerror or type(error).__name__) from error
    return found


def is_copy(path: Path) -> bool:
    """Whether this is a copy, and no site file."""
    return path.is_dir() or path.suffix == ".zip"


def _chains(site: Site) -> dict[str, Chain]:
    folder = Path(site.state)
    names = [audit_log.FILE, ledger_name(site.cohort or site.id)]
    names += [approvals.FILE] if (folder / approvals.FILE).exists() else []
    return {name: Chain(folder / name) for name in names}


def _verified(name: str, chain: Chain) -> Verified:
    try:
        entries, problem = chain.read(), None
    except DataError as error:
        if error.code != "SITE-E115":
            raise
        entries, problem = [], error
    seals = tuple(str(entry["seal"]) for entry in entries)
    return Verified(name, Head(len(seals), seals[-1]) if seals else Head(), problem, seals)


def _of_bytes(name: str, content: bytes, path: Path) -> Verified:
    seals: list[str] = []
    problem = None
    try:
        for entry, _ in verified(content, START, first=1, where=str(path / name)):
            seals.append(str(entry["seal"]))
    except DataError as error:
        problem = error
    return Verified(name, Head(len(seals), seals[-1]) if seals else Head(), problem, tuple(seals))


def _of_list(content: Mapping[str, bytes], path: Path) -> Verified:
    """Say whether the files are those that the copy lists, by their hashes."""
    listed = {name: data for name, data in content.items() if name != SUMS}
    problem = None
    if _sums(listed) != content[SUMS]:
        problem = DataError(
            "SITE-E115",
            "the files of the copy are not those that it lists",
            where=str(path / SUMS),
            fix="ask the site for another copy; sha256sum -c names the file",
        )
    return Verified(SUMS, Head(), problem, ())


def _sums(content: Mapping[str, bytes]) -> bytes:
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(content.items())).encode()


def _write(path: Path, content: Mapping[str, bytes]) -> None:
    if path.suffix != ".zip":
        path.mkdir(parents=True)
        for name, data in content.items():
            (path / name).write_bytes(data)
        return
    with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as copy:
        for name, data in content.items():
            copy.writestr(name, data)


def _read(path: Path) -> dict[str, bytes]:
    try:
        content = dict(_files(path))
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise _unusable("read", path, getattr(error, "strerror", None) or type(error).__name__) from error
    if not {audit_log.FILE, HEADS, SUMS} <= set(content):
        raise _unusable("read", path, "no copy of an audit log")
    return content


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        yield from ((file.name, file.read_bytes()) for file in sorted(path.iterdir()) if file.is_file())
        return
    with zipfile.ZipFile(path) as copy:
        for member in copy.infolist():
            if member.file_size > _LARGEST:
                raise OSError(None, "a file that is too large")
            yield member.filename, copy.read(member)


def _unusable(how: str, path: Path, found: str) -> DataError:
    return DataError(
        "SITE-E154",
        f"a copy of the audit log cannot be {how}",
        where=str(path),
        found=found,
        fix="name a new file ending in .zip, or a new folder, that this user may write"
        if how == "written"
        else "name what fedfm-site audit export has written",
    )

"""A site's sealed files, verified where they lie or in a copy, and that copy. Free of torch.

A copy (``client_app.audit_copy``) holds the files as they are, ``heads.json`` with the length and the last seal of
each, and ``SHA256SUMS``. It holds kinds, sizes, hashes and charges, as the files themselves do; nothing of a patient.
What approvals and audit log say of each other is held together as well.
"""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from client_app import approvals, audit_log
from client_app.audit_copy import HEADS, SUMS, read, sums, unusable, write
from client_app.chain import Chain, Entry
from client_app.own_files import ledger_name
from client_app.seals import START, line_of, verified
from fedfm.config.policy import policy_hash
from fedfm.config.site import Site
from fedfm.errors import DataError
from fedfm.wire import Head


@dataclass(frozen=True)
class Verified:
    """What was found of one file.

    Attributes:
        name: Of the file.
        problem: Why it is not whole, or not what the others say of it; names the line. None where it is.
        entries: Each entry that is whole, in order.
    """

    name: str
    problem: DataError | None = None
    entries: tuple[Entry, ...] = ()

    @property
    def head(self) -> Head:
        """Length and last seal, as far as the file is whole."""
        return Head(len(self.entries), str(self.entries[-1]["seal"])) if self.entries else Head()

    def holds(self, anchor: Head) -> bool:
        """Whether the file is whole and goes on from this head, which was told before."""
        there = self.entries[anchor.entries - 1 : anchor.entries]
        return self.problem is None and [entry["seal"] for entry in there] == [anchor.seal]


def of_site(site: Site) -> list[Verified]:
    """Return what is found of the site's audit log and ledger, and of its approvals where there are any.

    Raises:
        DataError: A file cannot be read (SITE-E150).
    """
    return _with_decisions(_found(site))


def of_copy(path: Path) -> list[Verified]:
    """Return what is found of the files of a copy.

    Raises:
        DataError: The copy cannot be read, or is no copy (SITE-E154).
    """
    content = read(path)
    if audit_log.FILE not in content:
        raise unusable("read", path, "no copy of an audit log")
    found = [_of_bytes(name, content[name], path) for name in sorted(content) if name.endswith(".jsonl")]
    return [*_with_decisions(found), _of_heads(content[HEADS], found, path), _of_list(content, path)]


def export(site: Site, path: Path) -> list[Verified]:
    """Write a copy of the site's sealed files, as one ``.zip`` or as a folder; return what was found of them.

    Raises:
        DataError: A file is damaged, or the copy cannot be written; nothing is overwritten. That approvals and audit
            log disagree keeps nothing back: whoever verifies the copy finds it.
    """
    found = _found(site)
    for one in found:
        if one.problem is not None:
            raise one.problem
    content = {one.name: b"".join(map(line_of, one.entries)) for one in found}
    told = {
        "site": site.id,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "fedfm": version("fedfm"),
        "policy": policy_hash(site.policy),
        "heads": {one.name: one.head._asdict() for one in found},
    }
    content[HEADS] = json.dumps(told, indent=2).encode() + b"\n"
    content[SUMS] = sums(content)
    write(path, content)
    return found


def is_copy(path: Path) -> bool:
    """Whether this is a copy, and no site file."""
    return path.is_dir() or path.suffix == ".zip"


def _found(site: Site) -> list[Verified]:
    folder = Path(site.state)
    names = [audit_log.FILE, ledger_name(site.cohort or site.id)]
    names += [approvals.FILE] if (folder / approvals.FILE).exists() else []
    return [_verified(name, Chain(folder / name)) for name in names]


def _verified(name: str, chain: Chain) -> Verified:
    try:
        return Verified(name, entries=tuple(chain.read()))
    except DataError as error:
        if error.code != "SITE-E115":
            raise
        return Verified(name, error)


def _of_bytes(name: str, content: bytes, path: Path) -> Verified:
    entries: list[Entry] = []
    problem = None
    try:
        for entry, _ in verified(content, START, first=1, where=str(path / name)):
            entries.append(entry)
    except DataError as error:
        problem = error
    return Verified(name, problem, tuple(entries))


def _with_decisions(found: list[Verified]) -> list[Verified]:
    """Return what was found, with the approvals as a problem where they do not hold what the audit log says of them."""
    of = {one.name: one for one in found}
    log, kept = of[audit_log.FILE], of.get(approvals.FILE, Verified(approvals.FILE))
    last = {str(entry.get("study")): entry for entry in kept.entries}
    if log.problem or kept.problem or not audit_log.disagreeing(audit_log.newest_decisions(log.entries), last):
        return found
    problem = DataError(
        approvals.DISAGREES,
        "the approvals do not hold what the audit log has as the newest decision on a study",
        where=kept.name,
        fix="put back the newest copy of the approvals, or decide anew: fedfm-site approve SITE_FILE names the studies",
    )
    return [one for one in found if one.name != kept.name] + [replace(kept, problem=problem)]


def _of_heads(content: bytes, found: list[Verified], path: Path) -> Verified:
    """Say whether the files are as long, and end with the seals, as the copy states: they are anchors of their own."""
    stated, has = _stated(content), {one.name: one.head._asdict() for one in found}
    if stated == has:
        return Verified(HEADS)
    wrong = [name for name in sorted({*stated, *has}) if stated.get(name) != has.get(name)]
    problem = DataError(
        "SITE-E115",
        "the files of the copy do not end where it says that they do",
        where=str(path / HEADS),
        found=", ".join(wrong)[:200],
        fix="ask the site for another copy",
    )
    return Verified(HEADS, problem)


def _stated(content: bytes) -> Mapping[str, Any]:
    try:
        heads = json.loads(content)["heads"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}
    return heads if isinstance(heads, dict) else {}


def _of_list(content: Mapping[str, bytes], path: Path) -> Verified:
    """Say whether the files are those that the copy lists, by their hashes."""
    if sums({name: data for name, data in content.items() if name != SUMS}) == content[SUMS]:
        return Verified(SUMS)
    problem = DataError(
        "SITE-E115",
        "the files of the copy are not those that it lists",
        where=str(path / SUMS),
        fix="ask the site for another copy; sha256sum -c names the file",
    )
    return Verified(SUMS, problem)

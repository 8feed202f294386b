"""What every site last told of its privacy ledger and audit log, kept over runs, so that neither can go back in time.

A site cannot tell by itself that somebody put an older copy of its ledger in place: all in it is true,
only the end is missing. The coordinator remembers length and last seal, says them back with each
request, and leaves out a site whose ledger became shorter; so of the audit log. It learns nothing of patients by that.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedfm.errors import EngineError, IncompatibleUpdate
from fedfm.wire import Head, Heads, PrivacySpent

FILE = "ledgers.json"


class Ledgers:
    """The memory of one coordinator, in one file.

    Args:
        folder: Where ``ledgers.json`` lies, or is made when the first site has told of its ledger.

    Raises:
        EngineError: The file is there and cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._known = self._read()

    def of(self, site: str) -> Heads:
        """Return the heads of the site's ledger and audit log as last told; empty for a site never heard of."""
        return self._known.get(site, Heads())

    def note(self, site: str, told: PrivacySpent) -> None:
        """Remember what a site tells, on disk before it returns.

        A site that never told of an audit log keeps none: its trainer runs inside the ClientApp's process.

        Raises:
            IncompatibleUpdate: The ledger, or the audit log, is shorter than before, or of the same length and another.
            EngineError: The memory cannot be written.
        """
        known = self.of(site)
        ledger, audit = Head(told.entries, told.seal), Head(told.audit_entries, told.audit_seal)
        if _went_back(ledger, known.ledger):
            raise _back("ROUND-E021", "privacy ledger", ledger, known.ledger)
        if _went_back(audit, known.audit):
            raise _back("ROUND-E026", "audit log", audit, known.audit)
        heard = Heads(ledger, audit)
        if heard != known:
            self._keep(site, heard)

    def _read(self) -> dict[str, Heads]:
        try:
            content: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
            return {str(site): _heads(told) for site, told in content.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
            raise _unusable("read", self._path, type(problem).__name__) from problem

    def _keep(self, site: str, told: Heads) -> None:
        """Write what is new; of what other runs have learned in the meantime, the longest files of each site stay.

        Their news stays in the file: answers to this run may be on their way since before them.
        """
        own = {**self._known, site: told}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with (self._path.parent / f".{FILE}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                written = self._read()
                longest = {name: _longest(each, written.get(name, each)) for name, each in own.items()}
                self._replace({**written, **longest})
        except OSError as problem:
            raise _unusable("written", self._path, problem.strerror or type(problem).__name__) from problem
        self._known = own

    def _replace(self, known: Mapping[str, Heads]) -> None:
        content = {
            name: {
                **{"entries": ledger.entries, "seal": ledger.seal},
                **{"audit_entries": audit.entries, "audit_seal": audit.seal},
            }
            for name, (ledger, audit) in sorted(known.items())
        }
        partial = self._path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)


def _heads(told: Mapping[str, Any]) -> Heads:
    """Return what the file says of one site; files of an older release say nothing of audit logs."""
    audit = Head(int(told["audit_entries"]), str(told["audit_seal"])) if "audit_entries" in told else Head()
    return Heads(Head(int(told["entries"]), str(told["seal"])), audit)


def _longest(one: Heads, other: Heads) -> Heads:
    return Heads(max(one.ledger, other.ledger), max(one.audit, other.audit))


def _went_back(told: Head, known: Head) -> bool:
    return told.entries < known.entries or (told.entries == known.entries and told.seal != known.seal)


def _back(code: str, what: str, told: Head, known: Head) -> IncompatibleUpdate:
    return IncompatibleUpdate(
        code,
        f"the site's {what} went back in time",
        found=f"{told.entries} entries",
        allowed=f"{known.entries} or more, the ones told before among them",
        fix=f"the site puts back its newest {what}; a site that begins anew, with new patients, is taken out of {FILE} "
        "at the coordinator",
    )


def _unusable(how: str, path: Path, found: str) -> EngineError:
    return EngineError(
        "RUN-E004",
        f"the memory of the sites' ledgers cannot be {how}",
        where=str(path),
        found=found,
        fix="free disk space or mend the rights; if it is damaged, put back a copy: without it, older ledgers at the "
        "sites are not noticed",
    )

"""What every site last told of its privacy ledger, kept over runs, so that a ledger cannot go back in time.

A site cannot tell by itself that somebody put an older copy of its ledger in place: all in it is true,
only the end is missing. The coordinator remembers length and last seal, says them back with each
request, and leaves out a site whose ledger became shorter. It learns nothing of patients by that.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedfm.errors import EngineError, IncompatibleUpdate
from fedfm.wire import PrivacySpent

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

    def of(self, site: str) -> tuple[int, str]:
        """Return length and last seal of the site's ledger as last told; (0, "") for a site never heard of."""
        return self._known.get(site, (0, ""))

    def note(self, site: str, told: PrivacySpent) -> None:
        """Remember what a site tells, on disk before it returns.

        Raises:
            IncompatibleUpdate: The ledger is shorter than before, or of the same length and another.
            EngineError: The memory cannot be written.
        """
        entries, seal = self.of(site)
        if told.entries < entries or (told.entries == entries and told.seal != seal):
            raise IncompatibleUpdate(
                "ROUND-E021",
                "the site's privacy ledger went back in time",
                found=f"{told.entries} entries",
                allowed=f"{entries} or more, the ones told before among them",
                fix=f"the site puts back its newest ledger; a site that begins anew, with new patients, is taken out "
                f"of {FILE} at the coordinator",
            )
        if told.entries > entries:
            self._keep(site, (told.entries, told.seal))

    def _read(self) -> dict[str, tuple[int, str]]:
        try:
            content: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
            return {str(site): (int(told["entries"]), str(told["seal"])) for site, told in content.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
            raise _unusable("read", self._path, type(problem).__name__) from problem

    def _keep(self, site: str, told: tuple[int, str]) -> None:
        """Write what is new; of what other runs have learned in the meantime, the longest ledger of each site stays.

        Their news stays in the file: answers to this run may be on their way since before them.
        """
        own = {**self._known, site: told}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with (self._path.parent / f".{FILE}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                written = self._read()
                longest = {name: max(each, written.get(name, each)) for name, each in own.items()}
                self._replace({**written, **longest})
        except OSError as problem:
            raise _unusable("written", self._path, problem.strerror or type(problem).__name__) from problem
        self._known = own

    def _replace(self, known: Mapping[str, tuple[int, str]]) -> None:
        content = {name: {"entries": entries, "seal": seal} for name, (entries, seal) in sorted(known.items())}
        partial = self._path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)


def _unusable(how: str, path: Path, found: str) -> EngineError:
    return EngineError(
        "RUN-E004",
        f"the memory of the sites' ledgers cannot be {how}",
        where=str(path),
        found=found,
        fix="free disk space or mend the rights; if it is damaged, put back a copy: without it, older ledgers at the "
        "sites are not noticed",
    )

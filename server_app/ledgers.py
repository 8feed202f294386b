"""What every site last told of its privacy ledger, kept over runs, so that a ledger cannot go back in time.

A site cannot tell by itself that somebody put an older copy of its ledger in place: all in it is true,
only the end is missing. The coordinator remembers length and last seal, says them back with each
request, and leaves out a site whose ledger became shorter. It learns nothing of patients by that.
"""

import fcntl
import json
import os
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
            raise EngineError(
                "RUN-E004",
                "the memory of the sites' ledgers cannot be read",
                where=str(self._path),
                found=type(problem).__name__,
                fix="put back a copy of the file; without it, older ledgers at the sites are not noticed",
            ) from problem

    def _keep(self, site: str, told: tuple[int, str]) -> None:
        """Write what other runs have learned in the meantime, too: the longest of each site wins."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with (self._path.parent / f".{FILE}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = {**self._known, **self._read()}
            known[site] = max(told, known.get(site, (0, "")))
            content = {name: {"entries": entries, "seal": seal} for name, (entries, seal) in sorted(known.items())}
            partial = self._path.with_suffix(".partial")
            with partial.open("w", encoding="utf-8") as file:
                file.write(json.dumps(content, indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
            self._known = known

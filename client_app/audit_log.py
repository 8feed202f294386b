"""What entered this hospital's trainer and what left it: kinds, sizes and hashes, never content."""

import datetime
import hashlib
import threading
from pathlib import Path

from client_app.chain import Chain, Entry

FILE = "audit.jsonl"


class AuditLog:
    """The log of one trainer; several threads may write.

    Args:
        folder: The site's state folder.
    """

    def __init__(self, folder: Path) -> None:
        self._chain = Chain(folder / FILE)
        self._one_at_a_time = threading.Lock()

    def entries(self) -> list[Entry]:
        """Return all entries, oldest first.

        Raises:
            DataError: The file was edited or damaged.
        """
        with self._one_at_a_time:
            return list(self._chain.read())

    def entered(self, kind: str, payload: bytes, *, run: str, round_: int) -> None:
        """Record that a request arrived, before anything is done about it."""
        self._record("entered", kind, payload, run, round_)

    def left(self, kind: str, payload: bytes, *, run: str, round_: int) -> None:
        """Record a reply, before it is handed over."""
        self._record("left", kind, payload, run, round_)

    def _record(self, direction: str, kind: str, payload: bytes, run: str, round_: int) -> None:
        entry = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "direction": direction,
            "kind": kind,
            "run": run,
            "round": round_,
            "bytes": len(payload),
            "sha256": hashlib.sha256(payload).hexdigest(),
        }
        with self._one_at_a_time:
            self._chain.append(entry)

"""What entered this hospital's trainer and what left it: kinds, sizes and hashes, never content.

Its head, the length and the last seal, leaves with each answer and comes back with each request: a log that was cut,
or replaced by an older copy, does not hold the head that was told of it.
"""

import datetime
import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path

from client_app.chain import Chain, Entry
from fedfm.errors import PolicyError
from fedfm.wire import Head

FILE = "audit.jsonl"


class AuditLog:
    """The log of one trainer; several threads may write.

    Args:
        folder: The site's state folder.
        beside: What every entry says beside the message, for example by which policy it was judged.
    """

    def __init__(self, folder: Path, *, beside: Mapping[str, str] | None = None) -> None:
        self._chain = Chain(folder / FILE)
        self._beside = dict(beside or {})
        self._one_at_a_time = threading.Lock()

    def entries(self) -> list[Entry]:
        """Return all entries, oldest first.

        Raises:
            DataError: The file was edited or damaged.
        """
        with self._one_at_a_time:
            return list(self._chain.read())

    def head(self) -> Head:
        """Return the number of entries, and the seal of the last; raises like ``entries``."""
        with self._one_at_a_time:
            return self._chain.head()

    def check_not_older(self, head: Head) -> None:
        """Refuse to go on with a log that is older than what the coordinator has heard of it.

        Args:
            head: What an answer of this site once said; 0 entries for nothing.

        Raises:
            PolicyError: This log is shorter, or another: it was cut, or a copy from before was put in its place.
            DataError: The file was edited or damaged.
        """
        with self._one_at_a_time:
            is_held = self._chain.holds(head)
        if not is_held:
            raise PolicyError(
                "SITE-E118",
                "the audit log is older than the one that the coordinator has heard of, or another one",
                where="state of site.yaml",
                fix="put back the newest copy of the audit log; never start from an older one, or from none",
            )

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
            **self._beside,
        }
        with self._one_at_a_time:
            self._chain.append(entry)

"""What entered this hospital's trainer, what left it and what its people decided: kinds, sizes, hashes, never content.

Its head, the length and the last seal, leaves with each answer and comes back with each request: a log that was cut,
or replaced by an older copy, does not hold the head that was told of it.
"""

import datetime
import hashlib
import threading
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

from client_app.chain import Chain, Entry
from client_app.seals import line_of
from fedfm.config.policy import policy_hash
from fedfm.config.site import Site
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
        self._decisions: dict[str, Entry] = {}
        self._seen = 0

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

    def decisions(self) -> dict[str, Entry]:
        """Return the newest entry about a decision on each study, by its hash; raises like ``entries``."""
        with self._one_at_a_time:
            found = self._chain.read()
            self._decisions |= newest_decisions(found[self._seen :])
            self._seen = len(found)
            return dict(self._decisions)

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
        self._record("entered", kind, payload, run=run, round=round_)

    def left(self, kind: str, payload: bytes, *, run: str, round_: int) -> None:
        """Record a reply, before it is handed over."""
        self._record("left", kind, payload, run=run, round=round_)

    def decided(self, action: str, decision: Entry, *, study: str) -> None:
        """Record a decision on a study, after it stands in the approvals: by its hash, so that no other passes for it.

        Args:
            action: ``approve`` or ``withdraw``.
            decision: The entry of the approvals.
            study: SHA-256 of the resolved study.
        """
        self._record("decided", action, line_of(decision), run="", round=0, study=study)

    def _record(self, direction: str, kind: str, payload: bytes, **of: str | int) -> None:
        entry = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "direction": direction,
            "kind": kind,
            **of,
            "bytes": len(payload),
            "sha256": hashlib.sha256(payload).hexdigest(),
            **self._beside,
        }
        with self._one_at_a_time:
            self._chain.append(entry)


def log_of(site: Site) -> AuditLog:
    """Return the audit log of a site; every entry says which release and which policy judged."""
    return AuditLog(Path(site.state), beside={"fedfm": version("fedfm"), "policy": policy_hash(site.policy)})


def newest_decisions(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Return the last entry about a decision on each study, by the study's hash, among entries of an audit log."""
    return {str(entry.get("study")): entry for entry in entries if entry.get("direction") == "decided"}


def disagreeing(noted: Mapping[str, Entry], kept: Mapping[str, Entry]) -> tuple[str, ...]:
    """Return the hashes of studies of which approvals and audit log do not say the same.

    Args:
        noted: The newest decision on each study, by its hash, as the audit log has it.
        kept: The last entry about each study, by its hash, as the approvals have it.
    """
    return tuple(sorted(study for study in {*noted, *kept} if not agrees(noted.get(study), kept.get(study))))


def agrees(noted: Entry | None, kept: Entry | None) -> bool:
    """Whether the audit log's newest decision on a study is the last one that the approvals hold; None for none."""
    if noted is None or kept is None:
        return noted is kept
    return bool(noted.get("sha256") == hashlib.sha256(line_of(kept)).hexdigest())

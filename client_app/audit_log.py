"""What entered this hospital's trainer and what left it: kinds, sizes and hashes, never content."""

import datetime
import hashlib
from pathlib import Path

from client_app import chain

FILE = "audit.jsonl"


def entered(folder: Path, kind: str, payload: bytes, *, run: str, round_: int) -> None:
    """Record that a request arrived, before anything is done about it."""
    _record(folder, "entered", kind, payload, run, round_)


def left(folder: Path, kind: str, payload: bytes, *, run: str, round_: int) -> None:
    """Record a reply, before it is handed over."""
    _record(folder, "left", kind, payload, run, round_)


def _record(folder: Path, direction: str, kind: str, payload: bytes, run: str, round_: int) -> None:
    chain.append(
        folder / FILE,
        {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "direction": direction,
            "kind": kind,
            "run": run,
            "round": round_,
            "bytes": len(payload),
            "sha256": hashlib.sha256(payload).hexdigest(),
        },
    )

"""One visit of the coordinator's doctor: every group looked at, whatever befalls one of them."""

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from fedfm.errors import FedFMError
from fedfm.findings import Examination, Finding, of_error
from server_app.doctor import identity, machine, study, superlink
from server_app.doctor.asked import Asked, Group

_LOGGER = logging.getLogger(__name__)

GROUPS: dict[str, Group] = {
    "certificates": identity.findings,
    "superlink": superlink.findings,
    "machine": machine.findings,
    "study": study.findings,
}
"""Name of a group to its checks, in the order in which they are looked at and shown."""


def examine(asked: Asked, groups: Sequence[str] = ()) -> Examination:
    """Look at a coordinator, at the named groups or at all of them.

    Guarantees:
        Every group has a finding, also where a check fails in a way that nobody foresaw; its text is in the log.
    """
    started, moment = time.monotonic(), datetime.now(UTC)
    found = [finding for name in groups or GROUPS for finding in _guarded(name, asked)]
    facts = {
        "certificates": str(asked.certificates),
        "SuperLink": f"{asked.superlink}, for hospitals {asked.fleet}",
        "study": " ".join(asked.overrides) or "as conf/ says",
        "groups": ", ".join(groups) or "all",
        "looked at": f"{moment:%Y-%m-%d %H:%M} UTC",
        "took": f"{time.monotonic() - started:.0f} s",
    }
    return Examination("coordinator", facts, tuple(found))


def _guarded(name: str, asked: Asked) -> Iterator[Finding]:
    try:
        yield from GROUPS[name](asked)
    except FedFMError as error:
        yield from of_error(name, "check", error)
    except Exception as error:
        _LOGGER.exception("the group %s could not be looked at", name)
        what = f"could not be looked at: {type(error).__name__}"
        yield Finding(name, "check", "fail", what, "RUN-E002", "read what is printed above, and report it")

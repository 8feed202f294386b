"""What keeps a SuperNode from the coordinator, read from the end of its log: the words are Flower's and gRPC's.

A log tells less than ``fedfm-site doctor``: an unknown key and a twin read alike, and so do a proxy that inspects TLS
and another authority; a certificate for another host reads like a host that is down.
"""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "expired",
    "not_yet_valid",
    "other_host",
    "other_authority",
    "no_tls",
    "wrong_clock",
    "unknown_key",
    "no_key",
    "not_reached",
]


@dataclass(frozen=True)
class Sign:
    """What a line in a log means.

    Attributes:
        kind: Which of the causes.
        pattern: Regular expression over the end of a log; its first group is what was found.
        what: One clause.
    """

    kind: Kind
    pattern: str
    what: str


SIGNS = (
    Sign(
        "unknown_key",
        r"\[code: (2004)\]",
        "the coordinator does not know the key of this site, or a twin of it is online, or was a minute ago",
    ),
    Sign("no_key", r"\[code: (2001)\]", "the coordinator admits only sites with a node key"),
    Sign("expired", r"(certificate has expired)", "the coordinator's certificate has expired"),
    Sign("not_yet_valid", r"(certificate is not yet valid)", "the coordinator's certificate is not valid yet"),
    Sign(
        "other_host",
        r"(?:(certificate is not valid for[^\n]*)|(Hostname mismatch[^\n]*))",
        "the coordinator's certificate is for another host name",
    ),
    Sign(
        "other_authority",
        r"(unable to get local issuer certificate|self[- ]signed certificate|certificate signature failure)",
        "the coordinator's certificate was signed by another authority, or a proxy shows one of its own",
    ),
    Sign("no_tls", r"(WRONG_VERSION_NUMBER|wrong version number)", "the port of the coordinator answers without TLS"),
    Sign(  # Flower ends a SuperNode whose stamps are refused as if somebody had asked for it, with exit code 0
        "wrong_clock",
        r"(?s)Starting Flower SuperNode(?!.*(?:SuperNode ID|ERROR)).*(SuperNode terminated gracefully)",
        "the coordinator does not accept the time stamps of this site: its clock, or the coordinator's, is wrong",
    ),
    Sign(
        "not_reached",
        r"(Connection attempt failed, retrying in [\d.]+ seconds)\s*\Z",
        "the coordinator is not reached, or its certificate is for another host name",
    ),
)


def read(tail: str) -> tuple[Sign, str] | None:
    """Return what the end of a log means, and what was found in it; None for nothing that is known here."""
    for sign in SIGNS:
        if match := re.search(sign.pattern, tail):
            return sign, next((group for group in match.groups() if group), "")
    return None


def tail_of(text: str, lines: int = 15) -> str:
    """Return the last lines of a log."""
    return "\n".join(text.splitlines()[-lines:])

"""What a process of the engine says when it fails, in words that help."""

import re
from dataclasses import dataclass
from pathlib import Path

from fedfm.errors import EngineError
from fedfm.flower_logs import Kind, read, tail_of


@dataclass(frozen=True)
class Cause:
    """What a line in a log means.

    Attributes:
        pattern: Regular expression over the end of a log; its first group is what was found.
        code: Code of the error.
        what: One clause.
        fix: What to do.
    """

    pattern: str
    code: str
    what: str
    fix: str


CAUSES = (
    Cause(
        r"(?i)(?:port (\d+)|:(\d+)).{0,80}(?:already in use|address in use)|address already in use",
        "ENGINE-E110",
        "a port is taken by another program",
        "see who has it (ss -ltnp), or name another with --port",
    ),
    Cause(
        r"(No module named '[\w.]+')",
        "ENGINE-E112",
        "a Python module is missing",
        "run scripts/setup; if that does not help, remove .venv and run it again",
    ),
    Cause(
        r"(?m)^.*?\b((?!ENGINE)[A-Z]{3,8}-E\d{3} [^\n]*)",
        "ENGINE-E113",
        "a setting, a file or a site is not as it must be",
        "correct what the message names",
    ),
)


OF_SUPERNODES: dict[Kind, tuple[str, str]] = {
    "unknown_key": (
        "ENGINE-E125",
        "send the coordinator the site's .pub file: flwr supernode register KEY.pub CONNECTION --name SITE",
    ),
    "no_key": ("ENGINE-E125", "start the SuperNode with --auth-supernode-private-key"),
    "expired": ("ENGINE-E120", "make a new one with scripts/make-certificates and send ca.crt to every site"),
    "not_yet_valid": ("ENGINE-E123", "set the clock of the site, or of where the certificate was made"),
    "other_host": ("ENGINE-E121", "name the host when making it: scripts/make-certificates DIR HOST"),
    "other_authority": ("ENGINE-E122", "give the site the coordinator's ca.crt"),
    "no_tls": ("ENGINE-E129", "name the port of the Fleet API, and start the SuperLink with its certificates"),
    "wrong_clock": ("ENGINE-E127", "set the clocks of site and coordinator (NTP)"),
    "not_reached": ("ENGINE-E126", "see whether the SuperLink runs; fedfm-site doctor tells more"),
}
"""Code and remedy for each cause that a SuperNode's log tells."""


def explain(name: str, log: Path, *, seconds: float | None = None) -> EngineError:
    """Return the error for a process that ended early, or that was not ready after ``seconds``.

    The end of its log is part of the message: these are logs of this machine's own processes.
    """
    tail = tail_of(log.read_text(errors="replace")) if log.exists() else ""
    what = f"{name} ended early" if seconds is None else f"{name} was not ready after {seconds:.0f} s"
    if known := read(tail):
        sign, found = known
        code, fix = OF_SUPERNODES[sign.kind]
        return EngineError(code, f"{what}: {sign.what}", where=str(log), found=found, fix=fix)
    for cause in CAUSES:
        if match := re.search(cause.pattern, tail):
            found = next((group for group in match.groups() if group), "")
            return EngineError(cause.code, f"{what}: {cause.what}", where=str(log), found=found, fix=cause.fix)
    return EngineError("ENGINE-E111", what, where=str(log), found=f"\n{tail}\n", fix="read the whole log")

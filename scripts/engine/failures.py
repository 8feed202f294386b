"""What a process of the engine says when it fails, in words that help."""

import re
from dataclasses import dataclass
from pathlib import Path

from fedfm.errors import EngineError


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
        r"\[code: (2004)\]",
        "ENGINE-E125",
        "the coordinator does not know the key of this site, or a twin of it is online",
        "send the coordinator the site's .pub file: flwr supernode register KEY.pub CONNECTION --name SITE",
    ),
    Cause(
        r"\[code: (2001)\]",
        "ENGINE-E125",
        "the coordinator admits only sites with a node key",
        "start the SuperNode with --auth-supernode-private-key",
    ),
    Cause(
        r"(certificate has expired)",
        "ENGINE-E120",
        "the coordinator's certificate has expired",
        "make a new one with scripts/make-certificates and send ca.crt to every site",
    ),
    Cause(
        r"(?:(certificate is not valid for[^\n]*)|(Hostname mismatch[^\n]*))",
        "ENGINE-E121",
        "the coordinator's certificate is for another host name",
        "name the host when making it: scripts/make-certificates DIR HOST",
    ),
    Cause(
        r"(unable to get local issuer certificate|self[- ]signed certificate)",
        "ENGINE-E122",
        "the coordinator's certificate was signed by another authority",
        "give the site the coordinator's ca.crt",
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


def explain(name: str, log: Path, *, seconds: float | None = None) -> EngineError:
    """Return the error for a process that ended early, or that was not ready after ``seconds``.

    The end of its log is part of the message: these are logs of this machine's own processes.
    """
    tail = _tail(log)
    what = f"{name} ended early" if seconds is None else f"{name} was not ready after {seconds:.0f} s"
    for cause in CAUSES:
        if match := re.search(cause.pattern, tail):
            found = next((group for group in match.groups() if group), "")
            return EngineError(cause.code, f"{what}: {cause.what}", where=str(log), found=found, fix=cause.fix)
    return EngineError("ENGINE-E111", what, where=str(log), found=f"\n{tail}\n", fix="read the whole log")


def _tail(log: Path, lines: int = 15) -> str:
    text = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join(text.splitlines()[-lines:])

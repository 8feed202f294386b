"""``fedfm-site read-log``: what a SuperNode's log means, in words that help."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from client_app.commands.console import friendly
from fedfm.console import say
from fedfm.errors import DataError
from fedfm.flower_logs import Kind, read, tail_of

CODES: dict[Kind, tuple[str, str]] = {
    "unknown_key": (
        "SITE-E125",
        "send the coordinator the file site.pub; where a SuperNode of this site ended a moment ago, wait a minute",
    ),
    "no_key": ("SITE-E125", "start the SuperNode with the site's node key"),
    "expired": ("SITE-E120", "ask the coordinator for its new ca.crt; if this machine's clock is wrong, set it (NTP)"),
    "not_yet_valid": ("SITE-E148", "set this machine's clock (NTP)"),
    "other_host": ("SITE-E121", "write a name that the certificate is for in network.coordinator"),
    "other_authority": (
        "SITE-E122",
        "ask the coordinator for its present ca.crt, and IT for a proxy that inspects TLS",
    ),
    "no_tls": ("SITE-E129", "compare the port with the coordinator's"),
    "wrong_clock": ("SITE-E127", "let this machine keep the time by NTP"),
    "not_reached": ("SITE-E146", "compare host and port with the coordinator's, and ask IT for a firewall"),
}
"""Code and remedy for each cause, as ``fedfm-site doctor`` has them."""


def read_log(
    log: Annotated[Path, typer.Argument(help="The SuperNode's log; - for what is piped in.")] = Path("-"),
) -> None:
    """Say what the end of a SuperNode's log means, and what to do.

    Some causes read alike in a log: fedfm-site doctor tells them apart. Exit code 2 where a cause was found, 0 where
    the log tells of none.

    Example: docker compose logs --no-log-prefix supernode | fedfm-site read-log
    """
    with friendly():
        known = read(tail_of(_text(log)))
    if known is None:
        say("Nothing in the end of this log is known to keep a SuperNode from the coordinator.")
        return
    sign, found = known
    code, fix = CODES[sign.kind]
    say(f"{code} {sign.what}\n  got: {found}\n  fix: {fix}\n  fedfm-site doctor SITE_FILE tells more.")
    raise typer.Exit(2)


def _text(log: Path) -> str:
    if str(log) == "-":
        return sys.stdin.read()
    try:
        return log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise DataError("SITE-E149", "the log cannot be read", where=str(log), found=why) from error

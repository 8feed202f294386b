"""``fedfm-study certificates``: what hospitals know the coordinator by."""

from pathlib import Path
from typing import Annotated

import typer

from server_app.certificates import LOCAL, make_certificates
from server_app.commands.console import friendly, say


def certificates(
    directory: Annotated[Path, typer.Argument(help="Where to write; made if absent.")],
    hosts: Annotated[
        list[str] | None,
        typer.Argument(help="DNS names and IP addresses of the coordinator; this machine where left out."),
    ] = None,
) -> None:
    """Write a certificate authority (ca.crt) and the coordinator's certificate and key, for 365 days.

    Every hospital gets ca.crt; server.pem and server.key stay here. Existing files are never overwritten.

    Example: fedfm-study certificates certificates federation.example.org 203.0.113.7
    """
    with friendly():
        made = make_certificates(directory, hosts or LOCAL)
        say(f"For every hospital:       {made.authority}")
        say(f"Stay at the coordinator:  {made.server}, {made.server_key}")

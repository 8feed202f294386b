"""``fedfm-study certificates`` and ``admit``: a federation is made, and hospitals join it."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from server_app import admission
from server_app.certificates import LOCAL, make_certificates
from server_app.commands.console import friendly, say

Superlink = Annotated[str, typer.Option(help="host:port of the SuperLink's Control API.")]
Authority = Annotated[Path, typer.Option(help="Certificate of the authority, ca.crt.")]


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


def admit(
    public_key: Annotated[Path, typer.Argument(help="The hospital's public node key, site.pub.")],
    *,
    site: Annotated[str, typer.Option(help="The hospital's id, as in its site.yaml.")],
    superlink: Superlink = "127.0.0.1:8000",
    authority: Authority = Path("certificates/ca.crt"),
) -> None:
    """Let a hospital take part: make its node key known to the SuperLink, under the hospital's id.

    Example: fedfm-study admit hospital-a.pub --site hospital-a
    """
    with friendly(), closing(admission.client(superlink, authority)) as control:
        admission.register(control, site, public_key)
        say(f"{site} may take part.")

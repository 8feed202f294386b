"""``fedfm-study init`` and ``certificates``: a federation is made."""

from pathlib import Path
from typing import Annotated

import typer

from server_app.certificates import LOCAL, make_certificates
from server_app.commands.console import friendly, say
from server_app.coordinator_folder import write_coordinator

Superlink = Annotated[str, typer.Option(envvar="FEDFM_SUPERLINK", help="host:port of the SuperLink's Control API.")]
Authority = Annotated[Path, typer.Option(envvar="FEDFM_AUTHORITY", help="Certificate of the authority, ca.crt.")]


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


def init(
    folder: Annotated[Path, typer.Argument(help="The coordinator's new folder.")],
    hosts: Annotated[
        list[str], typer.Argument(help="DNS names and IP addresses under which hospitals reach the coordinator.")
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port that hospitals reach.")] = 9092,
) -> None:
    """Make the folder of a coordinator's containers: certificates, secret, ``.env``; and say what to send.

    Example: fedfm-study init coordinator fl.example.org
    """
    with friendly():
        made = write_coordinator(folder, hosts, port=port)
        say(f"Written to {folder}. Send every hospital, with this fingerprint by another way than the file:")
        say(f"  {made.authority}   SHA256 {made.fingerprint}")
        say(f"  the address      {hosts[0]}:{port}")
        if not made.owned:
            say("\nThis user may not give files away, and the containers have users of their own. Once, as root:")
            say(f"  chown {made.owner} {' '.join(map(str, made.private))}")
        say("\nNext, in that folder, with coordinator.compose.yaml of this release copied into it:")
        say("  docker compose up -d --wait\n  docker compose run --rm admin fedfm-study sites")

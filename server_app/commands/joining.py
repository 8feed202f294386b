"""``fedfm-study init`` and ``certificates``: a federation is made."""

from pathlib import Path
from typing import Annotated

import typer

from fedfm.certificates import fingerprint_of, read_certificates
from fedfm.console import say
from server_app.certificates import LOCAL, make_certificates, renew, switch
from server_app.commands.console import friendly
from server_app.coordinator_folder import GROUP, SUPERLINK, write_coordinator
from server_app.tunnel_folder import OVERLAY, TUNNEL, add_tunnel

Superlink = Annotated[str, typer.Option(envvar="FEDFM_SUPERLINK", help="host:port of the SuperLink's Control API.")]
Authority = Annotated[Path, typer.Option(envvar="FEDFM_AUTHORITY", help="Certificate of the authority, ca.crt.")]


def certificates(
    directory: Annotated[Path, typer.Argument(help="Where to write; made if absent.")],
    hosts: Annotated[
        list[str] | None,
        typer.Argument(
            help="DNS names and IP addresses of the coordinator; where left out this machine, or those as before."
        ),
    ] = None,
    *,
    renewal: Annotated[
        bool, typer.Option("--renew", help="Make the next ones; ca.crt then holds the old and the next authority.")
    ] = False,
    switching: Annotated[
        bool, typer.Option("--switch", help="Use what --renew made, once every hospital has the new ca.crt.")
    ] = False,
) -> None:
    """Write a certificate authority (ca.crt) and the coordinator's certificate and key, for 365 days.

    Every hospital gets ca.crt; server.pem and server.key stay here. Existing files are never overwritten: --renew
    and --switch keep what they replace in the folder "former".

    Example: fedfm-study certificates certificates federation.example.org 203.0.113.7
    """
    if switching and (renewal or hosts):
        raise typer.BadParameter("--switch stands alone; hosts are named with --renew")
    with friendly():
        if switching:
            used = switch(directory)
            say(f"In use from the SuperLink's next start:  {used.server}, {used.server_key}")
            return
        made = renew(directory, hosts or ()) if renewal else make_certificates(directory, hosts or LOCAL)
        say(f"For every hospital:       {made.authority}")
        fingerprint = fingerprint_of(read_certificates(made.authority)[0])
        say(f"  its SHA-256 fingerprint, by another way than the file: {fingerprint}")
        say(f"Stay at the coordinator:  {made.server}, {made.server_key}")
        if renewal:
            say("When every hospital has the new ca.crt: the same command with --switch, then restart the SuperLink.")


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
        say(f"  {made.authority}   SHA-256 fingerprint {made.fingerprint}")
        say(f"  the address      {hosts[0]}:{port}")
        if not made.owned:
            say("\nThis user may not give files away, and the containers have users of their own. Once, as root:")
            say(f"  chown {made.owner} {' '.join(map(str, made.private))}")
        say("\nNext, in that folder, with coordinator.compose.yaml of this release copied into it:")
        say("  docker compose up -d --wait\n  docker compose run --rm admin fedfm-study sites")


def tunnel(
    folder: Annotated[Path, typer.Argument(help="The coordinator's folder, which fedfm-study init has made.")],
) -> None:
    """Make key and certificate of the coordinator's end of a tunnel, which only admitted hospitals pass.

    Example: fedfm-study tunnel coordinator
    """
    with friendly():
        made = add_tunnel(folder)
        say("Send every hospital, with this fingerprint by another way than the file:")
        say(f"  {made.certificate}   SHA256 {made.fingerprint}")
        if not made.owned:
            place = made.certificate.parent
            say("\nThis user may not give files away, and the containers have users of their own. Once, as root:")
            say(f"  chown {TUNNEL}:{GROUP} {place}/tunnel.key; chown -R {SUPERLINK}:{GROUP} {place}/admitted")
        say(f"\nNext, in that folder, with {OVERLAY} of this release copied into it:")
        say("  docker compose up -d --wait")
        say("From then on a hospital without a tunnel of its own does not get in.")

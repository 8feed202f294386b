"""``fedfm-site tunnel``: mutual TLS to the coordinator."""

from pathlib import Path
from typing import Annotated

import typer

from client_app.commands.console import friendly
from fedfm.console import say


def tunnel(
    folder: Annotated[Path, typer.Argument(help="The hospital's folder, which fedfm-site init has made.")],
    *,
    peer: Annotated[Path, typer.Option(help="The coordinator's tunnel.crt.")],
    at: Annotated[str, typer.Option(help="The coordinator's tunnel, host:port.")],
) -> None:
    """Make key and certificate of this hospital's end of a tunnel, which only admitted hospitals pass.

    The certificate is signed with the node key and stands in site.pub from then on; the key never leaves.

    Example: fedfm-site tunnel hospital-a --peer tunnel.crt --at fl.example.org:9092
    """
    from client_app.joining.folder import GROUP  # noqa: PLC0415 - Hydra
    from client_app.joining.tunnel_files import OVERLAY, TUNNEL, add_tunnel  # noqa: PLC0415 - as above

    with friendly():
        made = add_tunnel(folder, peer, at)
        say(f"Written to {made.folder}. Send the coordinator site.pub again: it carries the tunnel's certificate now.")
        say("Its fingerprint is the same as before: the node key vouches for the certificate.")
        if not made.names_itself:
            say("\nWrite under network in site.yaml:\n" + "\n".join(made.lines))
        if not made.owned:
            say("\nThis user may not give files away, and the containers have users of their own. Once, as root:")
            say(f"  chown {TUNNEL}:{GROUP} {made.folder}/tunnel.key")
        say(f"\nNext, when you are let in, in that folder, with {OVERLAY} of this release copied into it:")
        say("  docker compose run --rm doctor-network\n  docker compose up -d --wait")

"""``fedfm-study admit``, ``sites`` and ``revoke``: which hospitals may take part."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedfm.config.settings import settings_of
from fedfm.config.site import Site
from fedfm.console import print_json, say
from fedfm.errors import ConfigError
from server_app import admission, tunnel_admission
from server_app.commands.console import friendly
from server_app.commands.joining import Authority, Superlink

Tunnels = Annotated[
    Path | None,
    typer.Option(
        "--tunnels", envvar="FEDFM_TUNNELS", help="Folder of the list of tunnel certificates, where there is one."
    ),
]
LOCAL, CERTIFICATE = "127.0.0.1:8000", Path("certificates/ca.crt")


def admit(
    public_key: Annotated[Path, typer.Argument(help="The hospital's public node key, site.pub.")],
    *,
    site: Annotated[str, typer.Option(help="The hospital's id, as in its site.yaml.")],
    fingerprint: Annotated[
        str, typer.Option(help="What the hospital reads out by telephone; a key with another is refused.")
    ] = "",
    tunnels: Tunnels = None,
    superlink: Superlink = LOCAL,
    authority: Authority = CERTIFICATE,
) -> None:
    """Let a hospital take part: make its node key known to the SuperLink, under the hospital's id.

    Whoever holds that key then is the hospital. So compare its fingerprint by telephone, not by the mail it came in.
    Where there is a tunnel, the hospital's certificate in site.pub is let in too; a new one of a hospital that is in
    already, by the same command again.

    Example: fedfm-study admit site.pub --site hospital-a --fingerprint SHA256:...
    """
    with friendly():
        _check_id(site)
        of_key = admission.read_public_key(public_key)[1]
        if fingerprint and fingerprint != of_key:
            fix = "let nobody in; ask the hospital how site.pub was sent"
            raise ConfigError("STUDY-E099", "another key than was named", where=str(public_key), found=of_key, fix=fix)
        certificate = tunnel_admission.certificate_for(public_key) if tunnels else None
        with admission.connected(superlink, authority) as control:
            if not (certificate and admission.is_let_in(control, site, of_key)):
                admission.register(control, site, public_key)
        if tunnels and certificate:
            tunnel_admission.pin(tunnels, site, certificate)
        say(f"{site} may take part.")
        say(f"  fingerprint  {of_key}")
        if certificate:
            say(f"  tunnel       let in until {certificate.not_valid_after_utc:%Y-%m-%d}; vouched for by its node key")
        elif tunnels:
            say("  tunnel       none: this hospital does not get through before its site.pub carries a certificate")
        if not fingerprint:
            say("Compare it with the hospital by telephone; if it is another: fedfm-study revoke " + site)


def sites(
    superlink: Superlink = LOCAL,
    authority: Authority = CERTIFICATE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")] = False,
) -> None:
    """Show which hospitals may take part, which are online, and which were put out."""
    with friendly():
        with admission.connected(superlink, authority) as control:
            found = admission.sites(control)
        if as_json:
            print_json({"sites": [_as_json(each) for each in found]})
        elif found:
            Console().print(_as_table(found))
        else:
            say("No hospital has been let in yet: fedfm-study admit site.pub --site ID")


def revoke(
    site: Annotated[str, typer.Argument(help="The hospital's id.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
    tunnels: Tunnels = None,
    superlink: Superlink = LOCAL,
    authority: Authority = CERTIFICATE,
) -> None:
    """Put a hospital out: its key is refused from now on, and its updates are no longer taken.

    A run that goes on goes on without it. The key never comes back; a hospital that returns makes a new one.

    Example: fedfm-study revoke hospital-a
    """
    with friendly():
        if not yes:
            typer.confirm(f"Refuse the key of {site} from now on, for ever?", abort=True)
        cut = tunnel_admission.unpin(tunnels, site) if tunnels else 0  # first: it holds also where no SuperLink answers
        if cut:
            say(f"The tunnel is closed to {site}.")
        with admission.connected(superlink, authority) as control:
            gone = admission.revoke(control, site)
        say(f"{site} may no longer take part; its key {gone.fingerprint} is refused.")


def _check_id(site: str) -> None:
    pattern = next(str(entry.rule["pattern"]) for entry in settings_of(Site) if entry.path == "id")
    if not re.fullmatch(pattern, site):
        allowed = "2 to 32 of a-z 0-9 -, a letter or digit first, as in its site.yaml"
        raise ConfigError("STUDY-E098", "no id of a site", where="--site", found=repr(site), allowed=allowed)


def _as_json(each: admission.Admitted) -> dict[str, Any]:
    seen = each.seen.isoformat() if each.seen else None
    return {**asdict(each), "seen": seen, "since": each.since.isoformat(), "node": str(each.node)}


def _as_table(found: list[admission.Admitted]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("site", "state", "last seen (UTC)", "let in (UTC)", "fingerprint"):
        table.add_column(name, overflow="fold", no_wrap=name != "fingerprint")
    for each in found:
        seen = "now" if each.state == "online" else f"{each.seen:%Y-%m-%d %H:%M}" if each.seen else "never"
        table.add_row(*map(Text, (each.site, each.state, seen, f"{each.since:%Y-%m-%d %H:%M}", each.fingerprint)))
    return table

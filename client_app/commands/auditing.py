"""``fedfm-site audit``: what entered and what left, and whether the log was touched."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from client_app.audit_log import AuditLog
from client_app.commands.console import AsJson, SiteFile, friendly, print_json, say
from fedfm.config.compose import load_site
from fedfm.config.site import Site

_SHOWN = 20  # entries of the audit log that a person gets to see


def audit(site_file: SiteFile, as_json: AsJson = False) -> None:
    """Verify the seals of audit log and ledger, and show what entered and left the trainer."""
    from client_app.ledger import ledger_of  # noqa: PLC0415 - torch

    with friendly():
        site = load_site(site_file)
        entries = AuditLog(Path(site.state)).entries()
        seals = {"audit": str(entries[-1]["seal"]) if entries else None, "ledger": ledger_of(site).head()[1] or None}
        if as_json:
            print_json({"site": site.id, "seals": seals, "entries": entries})
            return
        if entries:
            Console().print(_as_table(site, entries))
        for name, seal in seals.items():
            say(f"{name:<7} {'whole, last seal ' + seal if seal else 'empty'}")
        say("Note the seals: whoever puts an older copy in place cannot bring them back.")


def _as_table(site: Site, entries: list[dict[str, Any]]) -> Table:
    last = entries[-_SHOWN:]
    title = f"{site.id}: last {len(last)} of {len(entries)} entries"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("time (UTC)", "way", "kind", "run", "round", "bytes", "sha256"):
        table.add_column(name, no_wrap=name != "run", overflow="fold")
    for entry in last:
        time = str(entry["time"])[:19].replace("T", " ")
        cells = [str(entry[name]) for name in ("direction", "kind", "run", "round", "bytes")]
        # as plain Text: the coordinator chose the name of the run, and may not style this screen
        table.add_row(time, *map(Text, cells), str(entry["sha256"])[:8])
    return table

"""``fedfm-site check``."""

from pathlib import Path

import typer

from client_app.audit_log import AuditLog
from client_app.commands.console import SiteFile, complain, friendly, say
from fedfm.config.compose import load_site
from fedfm.errors import DataError


def check(site_file: SiteFile) -> None:
    """Check the site file, the table it names, the ledger and the audit log. Nothing is sent, nothing is spent."""
    from client_app.data.named import columns_named  # noqa: PLC0415 - pandas
    from client_app.data.tables import column, read_table  # noqa: PLC0415 - pandas
    from client_app.ledger import ledger_of  # noqa: PLC0415 - torch

    with friendly():
        site = load_site(site_file)
        table = read_table(Path(site.data.path))
        wrong = []
        named = list(columns_named(site.data))
        for setting, name in named:
            try:
                column(table, name, setting=setting)
            except DataError as problem:
                wrong.append(problem)
        if wrong:
            complain(*wrong)
            raise typer.Exit(2)
        charges, entries = len(ledger_of(site).charges()), len(AuditLog(Path(site.state)).entries())
        say(f"OK  {site.id}")
        say(f"  table      {len(table.columns)} columns, the {len(named)} that the site file names among them")
        say(f"  ledger     whole, {charges} charges")
        say(f"  audit log  whole, {entries} entries")
        say("Labels and values are checked when a study asks; only then is it known which it needs.")

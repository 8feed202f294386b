"""``fedfm-site check``."""

from collections.abc import Iterator
from pathlib import Path

import typer

from client_app.approvals import Approvals
from client_app.audit_log import AuditLog
from client_app.commands.console import SiteFile, complain, friendly, say
from fedfm.config.compose import load_site
from fedfm.config.policy import policy_hash
from fedfm.config.site import Site
from fedfm.errors import DataError


def check(site_file: SiteFile) -> None:
    """Check the site file and its policy, the table, ledger, approvals and audit log. Nothing is sent or spent."""
    from client_app.data.tables import column, read_table  # noqa: PLC0415 - pandas
    from client_app.ledger import ledger_of  # noqa: PLC0415 - torch

    with friendly():
        site = load_site(site_file)
        table = read_table(Path(site.data.path))
        wrong = []
        named = list(_columns_named(site))
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
        approvals, needed = Approvals(site), site.policy.approval
        decided, waiting = len(approvals.decisions()), len(approvals.pending())
        say(f"  policy     {policy_hash(site.policy)[:12]}, approval {needed}")
        say(f"  table      {len(table.columns)} columns, the {len(named)} that the site file names among them")
        say(f"  ledger     whole, {charges} charges")
        say(f"  approvals  whole, {decided} decisions; {waiting} studies wait")
        say(f"  audit log  whole, {entries} entries")
        say("Labels and values are checked when a study asks; only then is it known which it needs.")


def _columns_named(site: Site) -> Iterator[tuple[str, str]]:
    """Each setting that names a column of the table, and the column."""
    from client_app.data.template import parse  # noqa: PLC0415 - pandas

    data = site.data
    for setting in ("patient", "label"):
        yield f"data.{setting}", getattr(data, setting)
    if data.loader == "text":
        yield "data.text", data.text
    if data.loader == "template":
        yield from (
            ("data.template", name) for name in sorted({name for c in parse(data.template) for name in c.columns})
        )
    if data.loader == "columns":
        yield from ((f"data.columns.{wanted}", name) for wanted, name in data.columns.items())
    yield from ((f"data.groups.{attribute}.column", group.column) for attribute, group in data.groups.items())
    if data.split.column:
        yield "data.split.column", data.split.column

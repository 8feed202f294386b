"""``fedfm-site check``."""

from pathlib import Path

import typer

from client_app.approvals import Approvals
from client_app.audit_log import AuditLog
from client_app.commands.console import SiteFile, complain, friendly
from fedfm.config.compose import load_site
from fedfm.config.policy import policy_hash
from fedfm.console import say
from fedfm.errors import DataError


def check(site_file: SiteFile) -> None:
    """Check the site file and its policy, the table, ledger, approvals and audit log. Nothing is sent or spent."""
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
        approvals, needed = Approvals(site), site.policy.approval
        decided, waiting = len(approvals.decisions()), approvals.waiting()
        say(f"  policy     {policy_hash(site.policy)[:12]}, approval {needed}")
        say(f"  table      {len(table.columns)} columns, the {len(named)} that the site file names among them")
        say(f"  ledger     whole, {charges} charges")
        count = len(approvals.disagreeing())
        differing = f", {count} NOT AS THE AUDIT LOG HAS THEM (SITE-E228)" if count else ""
        say(f"  approvals  whole, {decided} decisions{differing}; {len(waiting.studies)} studies wait")
        say(f"  audit log  whole, {entries} entries")
        complain(*waiting.unreadable.values())  # the trainer answers all the same
        say("Labels and values are checked when a study asks; only then is it known which it needs.")

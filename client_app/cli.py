"""``fedfm-site``: what a hospital's IT and data-protection officer call."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from client_app import audit_log, chain
from client_app.data.tables import column, read_table
from client_app.ledger import SPLITS, Ledger
from fedfm.config.compose import load_site
from fedfm.config.site import Site
from fedfm.errors import FedFMError

app = typer.Typer(
    help="A hospital's side of fedfm: check the site file, see the privacy budget, verify the audit log.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
SiteFile = Annotated[Path, typer.Argument(help="The hospital's site.yaml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]


@app.command()
def check(site_file: SiteFile) -> None:
    """Check the site file, the table it names and the ledger. Nothing is sent, nothing is spent."""
    with _friendly():
        site = load_site(site_file)
        table = read_table(Path(site.data.path))
        for setting in ("patient", "label", "text"):
            name = getattr(site.data, setting)
            if name:
                column(table, name, setting=f"data.{setting}")
        for attribute, group in site.data.groups.items():
            column(table, group.column, setting=f"data.groups.{attribute}.column")
        charges = len(_ledger(site).charges())
        Console().print(
            f"[green]OK[/]  {site.id}: table with {len(table.columns)} columns read, columns found, "
            f"ledger whole ({charges} charges). Labels are checked when a study asks."
        )


@app.command()
def budget(site_file: SiteFile, as_json: AsJson = False) -> None:
    """Show epsilon spent by one patient of each split, over all runs and studies, against the cap."""
    with _friendly():
        site = load_site(site_file)
        ledger = _ledger(site)
        delta = min(site.declared_patients**-1.1, site.policy.max_delta)
        spent = {split: ledger.epsilon(split, delta) for split in SPLITS}
        if as_json:
            told = {"site": site.id, "delta": delta, "max_epsilon": site.policy.max_epsilon, "spent": spent}
            sys.stdout.write(json.dumps(told) + "\n")
            return
        table = Table("patients of", "epsilon spent", "cap", "", title=f"{site.id} at delta {delta:.3g}")
        for split, value in spent.items():
            table.add_row(split, f"{value:.3f}", f"{site.policy.max_epsilon:g}", _bar(value / site.policy.max_epsilon))
        Console().print(table)


@app.command()
def audit(site_file: SiteFile, as_json: AsJson = False) -> None:
    """Verify the seals of audit log and ledger, and show what entered and left the trainer."""
    with _friendly():
        site = load_site(site_file)
        entries = chain.read(Path(site.state) / audit_log.FILE)
        charges = chain.read(_ledger(site).path)
        seals = {"audit": entries[-1]["seal"] if entries else None, "ledger": charges[-1]["seal"] if charges else None}
        if as_json:
            sys.stdout.write(json.dumps({"site": site.id, "seals": seals, "entries": entries}) + "\n")
            return
        table = Table(
            "time", "", "what", "run", "round", "bytes", "sha256", title=f"{site.id}: last 20 of {len(entries)}"
        )
        for entry in entries[-20:]:
            table.add_row(
                *(str(entry[name]) for name in ("time", "direction", "kind", "run", "round", "bytes")),
                str(entry["sha256"])[:12],
            )
        Console().print(table)
        Console().print(f"[green]seals hold[/]  audit {seals['audit']}  ledger {seals['ledger']}")


def _ledger(site: Site) -> Ledger:
    return Ledger(Path(site.state), site.cohort or site.id)


def _bar(share: float, width: int = 20) -> str:
    filled = min(width, round(share * width)) if share != float("inf") else width
    return "█" * filled + "░" * (width - filled)


@contextmanager
def _friendly() -> Iterator[None]:
    try:
        yield
    except FedFMError as error:
        Console(stderr=True).print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(2) from None

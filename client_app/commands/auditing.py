"""``fedfm-site audit``: what entered and left the trainer, whether that record was touched, and a copy of it."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from client_app.audit_log import FILE, AuditLog
from client_app.commands.console import AsJson, SiteFile, complain, friendly
from client_app.plain import plain
from fedfm.config.compose import load_site
from fedfm.console import print_json, say
from fedfm.wire import Head

if TYPE_CHECKING:
    from client_app.audit_files import Verified

app = typer.Typer(
    help="What entered and left the trainer, and what was decided: verify that record, show it, or copy it.",
    no_args_is_help=True,
)

Directions = click.Choice(["entered", "left", "decided"])


def _anchor(text: str | None) -> str | None:
    """Return the text of an anchor if it is one: typer knows no such type, so that it is read twice."""
    if text is not None and not re.fullmatch(r"[1-9][0-9]{0,15}:[0-9a-f]{64}", text):
        raise typer.BadParameter("write N:SEAL, a number of entries and the 64 digits of a seal")
    return text


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="The hospital's site.yaml, or what 'audit export' has written.")],
    anchor: Annotated[
        str | None,
        typer.Option(callback=_anchor, help="N:SEAL of the audit log, as a run's report or an earlier call has it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify the seals of audit log, ledger and approvals, and that the log still holds what was told of it before.

    Seals show what was edited, dropped or re-ordered. Lines that are missing at the end, or an older copy, show by an
    anchor alone: the head that the coordinator heard, which stands in the report of each run. The approvals must be
    those that the audit log tells of, and the files of a copy end as the copy says.

    Exit code 0: whole; 1: damaged, or without the anchor; 2: could not be read.
    """
    from client_app.audit_files import is_copy, of_copy, of_site  # noqa: PLC0415 - not needed to show the help

    with friendly():
        found = of_copy(file) if is_copy(file) else of_site(load_site(file))
    number, _, seal = (anchor or "").partition(":")
    told = Head(int(number), seal) if anchor else None
    is_held = told is None or next(one.holds(told) for one in found if one.name == FILE)
    is_whole = is_held and all(one.problem is None for one in found)
    if as_json:
        files = {
            one.name: {**one.head._asdict(), "problem": None if one.problem is None else str(one.problem)}
            for one in found
        }
        print_json({"whole": is_whole, "files": files, "anchor": told and {**told._asdict(), "held": is_held}})
    else:
        for one in found:
            say(f"{plain(one.name):<28} {_found(one)}")
        if told is not None:
            say(f"{'anchor':<28} {'held' if is_held else 'NOT HELD: the log was cut, or is an older copy'}")
        complain(*(one.problem for one in found if one.problem is not None))
    if not is_whole:
        raise typer.Exit(1)


@app.command()
def show(
    site_file: SiteFile,
    run: Annotated[str, typer.Option(help="Of this run alone.")] = "",
    last: Annotated[int, typer.Option(min=1, help="So many entries, the newest.")] = 20,
    direction: Annotated[str | None, typer.Option(click_type=Directions, help="Of one way alone.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what entered, what left and what was decided: kind, run, round, size and hash of each; never its content."""
    with friendly():
        site = load_site(site_file)
        found = [
            entry
            for entry in AuditLog(Path(site.state)).entries()
            if run in ("", entry["run"]) and direction in (None, entry["direction"])
        ]
        if as_json:
            print_json({"site": site.id, "entries": found[-last:]})
        elif found:
            Console().print(_as_table(site.id, found, last))
        else:
            say("No such entries yet.")


@app.command()
def export(
    site_file: SiteFile,
    file: Annotated[Path, typer.Argument(help="A new file ending in .zip, or a new folder.")],
    as_json: AsJson = False,
) -> None:
    """Copy audit log, ledger and approvals with their hashes, for somebody who verifies them elsewhere.

    Holds kinds, sizes, hashes and charges; nothing of a patient. Verify it with: fedfm-site audit verify FILE
    """
    from client_app.audit_files import export as write  # noqa: PLC0415 - not needed to show the help

    with friendly():
        found = write(load_site(site_file), file)
    if as_json:
        print_json({"file": str(file), "heads": {one.name: one.head._asdict() for one in found}})
        return
    for one in found:
        say(f"{one.name:<28} {f'{one.head.entries}:{one.head.seal}' if one.head.entries else 'empty'}")
    say(f"wrote {file}: verify it anywhere with fedfm-site audit verify {file}")


def _as_table(site: str, entries: list[dict[str, Any]], most: int) -> Table:
    last = entries[-most:]
    title = f"{site}: last {len(last)} of {len(entries)} entries"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("time (UTC)", "way", "kind", "run or study", "round", "bytes", "sha256"):
        table.add_column(name, no_wrap=name != "run or study", overflow="fold")
    for entry in last:
        time = str(entry["time"])[:19].replace("T", " ")
        of = f"study {str(entry['study'])[:12]}" if entry["direction"] == "decided" else str(entry["run"])
        cells = [str(entry["direction"]), str(entry["kind"]), of, str(entry["round"]), str(entry["bytes"])]
        # as plain Text: the coordinator chose the name of the run, and may neither style this screen nor act on it
        table.add_row(time, *(Text(plain(cell)) for cell in cells), str(entry["sha256"])[:8])
    return table


def _found(one: "Verified") -> str:
    if one.problem is not None:
        return "DAMAGED" if one.problem.code == "SITE-E115" else "NOT WHAT WAS DECIDED"
    if not one.name.endswith(".jsonl"):
        return "as it says of the files"
    return f"whole, {one.head.entries}:{one.head.seal}" if one.head.entries else "whole, empty"

"""``fedfm-study doctor``: is this coordinator ready for hospitals and for a study, and what is to be done where not."""

import os
from pathlib import Path
from typing import Annotated

import click
import typer

from fedfm.console import print_examination, say
from fedfm.errors import EngineError
from fedfm.findings_page import page
from fedfm.private_files import replace_private
from server_app.commands.admitting import LOCAL
from server_app.commands.console import friendly
from server_app.commands.joining import Superlink
from server_app.doctor.asked import Asked
from server_app.doctor.visit import GROUPS, examine


def doctor(  # noqa: PLR0913 - options of a command
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes of conf/study.yaml, as for the run: adapter=head rounds=3")
    ] = None,
    *,
    certificates: Annotated[Path, typer.Option(help="Folder with ca.crt, server.pem and server.key.")] = Path(
        "certificates"
    ),
    superlink: Superlink = LOCAL,
    fleet: Annotated[str, typer.Option(help="host:port of the Fleet API, as hospitals write it.")] = "127.0.0.1:9092",
    database: Annotated[
        Path | None, typer.Option(help="The SuperLink's database, where it is on this machine.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Where runs are written; else $FEDFM_RESULTS, else results.")
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(click_type=click.Choice(list(GROUPS)), help="Look at this group alone; may be given again."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write one page into this file.")] = None,
) -> None:
    """Examine this coordinator: certificates, SuperLink, hospitals, machine and study, each with what to do.

    Nothing is run and nothing is changed. Exit code 0: all passed, or could not be looked at here; 1: warnings;
    2: failures.

    Example: fedfm-study doctor --fleet fl.example.org:9092 --database superlink.db experiment=demo
    """
    written = results or Path(os.environ.get("FEDFM_RESULTS", "") or "results")
    memory = Path(os.environ.get("FEDFM_MEMORY", "") or written)
    asked = Asked(tuple(overrides or ()), certificates, superlink, fleet, database, written, memory)
    examination = examine(asked, tuple(dict.fromkeys(group or ())))
    if html is not None:
        with friendly():
            _write(html, page(examination))
    print_examination(examination, machine=as_json)
    if html is not None and not as_json:
        say(f"wrote {html}")
    raise typer.Exit(examination.exit_code)


def _write(path: Path, text: str) -> None:
    try:
        replace_private(path, text.encode("utf-8"))
    except OSError as error:
        raise EngineError(
            "REPORT-E003",
            "the page cannot be written",
            where=str(path),
            found=error.strerror or type(error).__name__,
            fix="name a file in a folder that is there and that this user may write",
        ) from error

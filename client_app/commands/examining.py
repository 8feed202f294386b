"""``fedfm-site doctor``: is this hospital fit to take part, and what is to be done where it is not."""

from pathlib import Path
from typing import Annotated

import click
import typer

from client_app.commands.console import AsJson, SiteFile, friendly, write_page
from client_app.doctor.groups import GROUPS
from client_app.doctor.visit import examine
from fedfm.console import print_examination, say
from fedfm.findings_page import page


def doctor(
    site_file: SiteFile,
    *,
    study: Annotated[
        Path | None, typer.Option(help="Examine for this study: the config.resolved.json of a run or a plan.")
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(click_type=click.Choice(list(GROUPS)), help="Look at this group alone; may be given again."),
    ] = None,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Also write one page into this file, for the review.")] = None,
) -> None:
    """Examine this hospital: settings, machine, disk, data, privacy and software, each with what to do.

    Nothing is sent and nothing is spent. No value of the data is shown, and no exact count of it: the output may be
    given to whoever reviews. Exit code 0: all passed, or could not be looked at here; 1: warnings; 2: failures.
    """
    with friendly():
        examination = examine(site_file, study_file=study, groups=tuple(dict.fromkeys(group or ())))
        if html is not None:
            write_page(html, page(examination))
    print_examination(examination, machine=as_json)
    if html is not None and not as_json:
        say(f"wrote {html}")
    raise typer.Exit(examination.exit_code)

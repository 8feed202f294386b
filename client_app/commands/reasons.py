"""``fedfm-site compare`` and ``explain``: exact figures and single patients, for the hospital's own people."""

from pathlib import Path
from typing import Annotated

import click
import typer
from rich.console import Console

from client_app.commands.console import AsJson, SiteFile, friendly, write_page
from fedfm.config.compose import load_site
from fedfm.config.explainability import ATTRIBUTION_NAMES
from fedfm.console import print_json, say

Attributions = click.Choice([name for name in ATTRIBUTION_NAMES if name != "none"])
Baselines = click.Choice(["pad", "mask", "mean"])

_CHECKS = 5  # last checks that a person gets to see


def compare(site_file: SiteFile, as_json: AsJson = False) -> None:
    """Compare the federated model with this hospital's own and the one trained here alone, on its test patients.

    Exact figures, made by the trainer after a run's last round, where the study had one of the two. Nothing is
    computed, sent or spent by this command. Do not share the output: it is made from patients without noise.
    """
    from client_app.comparison import as_json as compared_figures  # noqa: PLC0415 - torch
    from client_app.comparison import kept_figures  # noqa: PLC0415 - torch
    from client_app.comparison import tables as compared_tables  # noqa: PLC0415 - torch

    with friendly():
        site = load_site(site_file)
        told = kept_figures(site)
        if as_json:
            print_json(compared_figures(site, told))
            return
        for table in compared_tables(told):
            Console().print(table)
        say("Exact, without noise: do not share." if told else "No study has trained a second model here yet.")


def explain(  # noqa: PLR0913 - options of a command
    site_file: SiteFile,
    *,
    adapter: Annotated[
        Path | None, typer.Option(help="The adapter folder of a run's results; else the model last checked here.")
    ] = None,
    documents: Annotated[int, typer.Option(min=1, max=1000, help="Audit patients to show a document of.")] = 3,
    row: Annotated[
        int | None, typer.Option(min=1, help="Show the document of this row; the first below the names is 1.")
    ] = None,
    attribution: Annotated[
        str | None, typer.Option(click_type=Attributions, help="How words are credited; else as the study.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=2, max=200, help="Points on a path, or draws.")] = None,
    baseline: Annotated[str | None, typer.Option(click_type=Baselines, help="What a word is compared with.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write one page into this file instead of showing it.")] = None,
    checks: Annotated[bool, typer.Option("--checks", help="Show the gates of the last rounds instead.")] = False,
) -> None:
    """Show documents with their words coloured by how much they speak for what the model answers.

    Beside each stands whether the answer really hangs on these words. For this hospital's people: nothing leaves, so
    nothing is charged; and nothing of it may be shown outside, since it is of single patients, without noise.
    """
    from client_app.reasons.check_history import kept_checks  # noqa: PLC0415 - torch
    from client_app.reasons.check_tables import check_tables  # noqa: PLC0415 - torch
    from client_app.reasons.explained_console import renderables  # noqa: PLC0415 - torch
    from client_app.reasons.explained_page import page  # noqa: PLC0415 - torch
    from client_app.reasons.explaining import documents_of, shown_model  # noqa: PLC0415 - torch

    with friendly():
        site = load_site(site_file)
        if checks:
            kept = kept_checks(site)
            for table in check_tables(kept, last=_CHECKS):
                Console().print(table)
            say("Exact, without noise: do not share." if kept else "No study has had a model checked here yet.")
            return
        shown = shown_model(site, adapter, attribution=attribution, steps=steps, baseline=baseline)
        found = documents_of(site, shown, documents=documents, row=row)
        if html is None:
            for each in renderables(shown, found):
                Console(highlight=False, markup=False).print(each)
            return
        write_page(html, page(site.id, shown, found))
        say(f"wrote {html}: for this hospital's people only")

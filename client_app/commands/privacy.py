"""``fedfm-site budget``, ``privacy-report`` and ``audit-privacy``: what patients have lost, and whether it holds."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from client_app.commands.console import AsJson, SiteFile, friendly
from fedfm.config.compose import load_site
from fedfm.console import print_json, say


def _none_or_enough(models: int) -> int:
    """Return the number of models if an attack can be made with so many: one is attacked, three know the patients."""
    if models and models < 4:
        raise typer.BadParameter("0, or at least 4")
    return models


def budget(
    site_file: SiteFile,
    delta: Annotated[
        float | None,
        typer.Option(min=1e-9, max=0.1, help="Chance of failure to state epsilon at; else the site's own."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show epsilon spent by one patient of each split, over all runs and studies, against the cap.

    Then by study and run, by purpose, and at several deltas. Parts add up to more than the sum: what is composed at
    once costs less. The cap is judged at each study's own delta.
    """
    from client_app.budget import as_json as budget_figures  # noqa: PLC0415 - torch
    from client_app.budget import spending, tables  # noqa: PLC0415 - torch

    with friendly():
        told = spending(load_site(site_file), delta=delta)
        if as_json:
            print_json(budget_figures(told))
            return
        for table in tables(told):
            Console().print(table)
        if told.runs:
            say("Parts add up to more than the whole: composed together, they cost less.")
        if told.unprotected:
            whose = " and ".join(told.unprotected)
            say(f"No protection: {whose} patients were in a release without noise, which the policy of this site")
            say("allowed. No epsilon describes that; whatever needs protection is refused from now on.")


def privacy_report(
    site_file: SiteFile,
    output: Annotated[
        Path | None, typer.Option(help="Write the statement into this file instead of showing it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """State what this hospital's patients have lost so far, under the headings of NIST SP 800-226.

    Markdown, from the ledger and the policy alone: epsilon and delta, the unit, the trust model, every release, what
    is not covered, every run and study, and what is left. Holds nothing of a patient; meant to be filed and sent on.
    """
    from client_app.privacy_report import site_figures, site_statement, write_statement  # noqa: PLC0415 - torch
    from fedfm.privacy_statement import markdown  # noqa: PLC0415 - torch

    with friendly():
        site = load_site(site_file)
        text = json.dumps(site_figures(site), allow_nan=False) if as_json else markdown(site_statement(site))
        if output is None:
            sys.stdout.write(text.rstrip("\n") + "\n")
            return
        write_statement(output, text)
        say(f"wrote {output}")


def audit_privacy(
    site_file: SiteFile,
    study: Annotated[Path, typer.Argument(help="A resolved study: config.resolved.json of a run.")],
    canaries: Annotated[int, typer.Option(min=100, max=100_000, help="Planted units; more see smaller faults.")] = 2000,
    models: Annotated[
        int,
        typer.Option(
            max=1000, callback=_none_or_enough, help="Models of patients to attack: 4 to 1000, or 0 for none."
        ),
    ] = 16,
    as_json: AsJson = False,
) -> None:
    """Attack a study's training here, and see whether its privacy holds: by planted canaries, and by membership.

    Canaries: units that no patient stands behind, through the same private step that trains on patients. Their
    distance from the noise must be what the plan says; noise a fifth too small mostly shows.

    Membership: models are trained on random halves of this hospital's training patients, and attacked. A study
    without privacy gives patients away; one with it must not do so beyond its epsilon.

    Nothing is sent and nothing is charged. Unless --models 0, do not share the output: it is made from patients
    without noise. Exit code 0: consistent with the claim; 1: not; 2: could not be run.
    """
    from client_app.privacy_audit import figures, lines, read_study, run_audit  # noqa: PLC0415 - torch

    with friendly():
        site = load_site(site_file)
        found = run_audit(site, read_study(study), canaries=canaries, models=models)
        if as_json:
            print_json(figures(site, found))
        else:
            for line in lines(found):
                say(line)
    if not found.is_consistent:
        raise typer.Exit(1)

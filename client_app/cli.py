"""``fedfm-site``: what a hospital's IT and data-protection officer call."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import click
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from client_app.audit_log import AuditLog
from client_app.budget import as_json as budget_figures
from client_app.budget import spending, tables
from client_app.comparison import as_json as compared_figures
from client_app.comparison import kept_figures
from client_app.comparison import tables as compared_tables
from client_app.data.tables import column, read_table
from client_app.data.template import parse
from client_app.ledger import ledger_of
from client_app.privacy_audit import figures, lines, none_or_enough, read_study, run_audit
from client_app.privacy_report import site_figures, site_statement, write_statement
from client_app.reasons.check_history import kept_checks
from client_app.reasons.check_tables import check_tables
from client_app.reasons.explained_console import renderables
from client_app.reasons.explained_page import page, write_page
from client_app.reasons.explaining import documents_of, shown_model
from fedfm.config.compose import load_site
from fedfm.config.site import Site
from fedfm.errors import DataError, FedFMError
from fedfm.explain.attribution import ATTRIBUTIONS
from fedfm.privacy_statement import markdown

app = typer.Typer(
    help="A hospital's side of fedfm: check the site file, see the privacy budget, verify the audit log.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
SiteFile = Annotated[Path, typer.Argument(help="The hospital's site.yaml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]

Attributions = click.Choice(list(ATTRIBUTIONS))
Baselines = click.Choice(["pad", "mask", "mean"])

_CHECKS = 5  # last checks that a person gets to see
_SHOWN = 20  # entries of the audit log that a person gets to see


@app.command()
def check(site_file: SiteFile) -> None:
    """Check the site file, the table it names, the ledger and the audit log. Nothing is sent, nothing is spent."""
    with _friendly():
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
            _explain(*wrong)
            raise typer.Exit(2)
        charges, entries = len(ledger_of(site).charges()), len(_audit(site).entries())
        _say(f"OK  {site.id}")
        _say(f"  table      {len(table.columns)} columns, the {len(named)} that the site file names among them")
        _say(f"  ledger     whole, {charges} charges")
        _say(f"  audit log  whole, {entries} entries")
        _say("Labels and values are checked when a study asks; only then is it known which it needs.")


@app.command()
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
    with _friendly():
        told = spending(load_site(site_file), delta=delta)
        if as_json:
            _print_json(budget_figures(told))
            return
        for table in tables(told):
            Console().print(table)
        if told.runs:
            _say("Parts add up to more than the whole: composed together, they cost less.")
        if told.unprotected:
            whose = " and ".join(told.unprotected)
            _say(f"No protection: {whose} patients were in a release without noise, which the policy of this site")
            _say("allowed. No epsilon describes that; whatever needs protection is refused from now on.")


@app.command()
def audit(site_file: SiteFile, as_json: AsJson = False) -> None:
    """Verify the seals of audit log and ledger, and show what entered and left the trainer."""
    with _friendly():
        site = load_site(site_file)
        entries = _audit(site).entries()
        seals = {"audit": str(entries[-1]["seal"]) if entries else None, "ledger": ledger_of(site).head()[1] or None}
        if as_json:
            _print_json({"site": site.id, "seals": seals, "entries": entries})
            return
        if entries:
            Console().print(_as_table(site, entries))
        for name, seal in seals.items():
            _say(f"{name:<7} {'whole, last seal ' + seal if seal else 'empty'}")
        _say("Note the seals: whoever puts an older copy in place cannot bring them back.")


@app.command()
def compare(site_file: SiteFile, as_json: AsJson = False) -> None:
    """Compare the federated model with this hospital's own and the one trained here alone, on its test patients.

    Exact figures, made by the trainer after a run's last round, where the study had one of the two. Nothing is
    computed, sent or spent by this command. Do not share the output: it is made from patients without noise.
    """
    with _friendly():
        site = load_site(site_file)
        told = kept_figures(site)
        if as_json:
            _print_json(compared_figures(site, told))
            return
        for table in compared_tables(told):
            Console().print(table)
        _say("Exact, without noise: do not share." if told else "No study has trained a second model here yet.")


@app.command()
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
    with _friendly():
        site = load_site(site_file)
        if checks:
            kept = kept_checks(site)
            for table in check_tables(kept, last=_CHECKS):
                Console().print(table)
            _say("Exact, without noise: do not share." if kept else "No study has had a model checked here yet.")
            return
        shown = shown_model(site, adapter, attribution=attribution, steps=steps, baseline=baseline)
        found = documents_of(site, shown, documents=documents, row=row)
        if html is None:
            for each in renderables(shown, found):
                Console(highlight=False, markup=False).print(each)
            return
        write_page(html, page(site.id, shown, found))
        _say(f"wrote {html}: for this hospital's people only")


@app.command("privacy-report")
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
    with _friendly():
        site = load_site(site_file)
        text = json.dumps(site_figures(site), allow_nan=False) if as_json else markdown(site_statement(site))
        if output is None:
            sys.stdout.write(text.rstrip("\n") + "\n")
            return
        write_statement(output, text)
        _say(f"wrote {output}")


@app.command("audit-privacy")
def audit_privacy(
    site_file: SiteFile,
    study: Annotated[Path, typer.Argument(help="A resolved study: config.resolved.json of a run.")],
    canaries: Annotated[int, typer.Option(min=100, max=100_000, help="Planted units; more see smaller faults.")] = 2000,
    models: Annotated[
        int,
        typer.Option(max=1000, callback=none_or_enough, help="Models of patients to attack: 4 to 1000, or 0 for none."),
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
    with _friendly():
        site = load_site(site_file)
        found = run_audit(site, read_study(study), canaries=canaries, models=models)
        if as_json:
            _print_json(figures(site, found))
        else:
            for line in lines(found):
                _say(line)
    if not found.is_consistent:
        raise typer.Exit(1)


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


def _columns_named(site: Site) -> Iterator[tuple[str, str]]:
    """Each setting that names a column of the table, and the column."""
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


def _audit(site: Site) -> AuditLog:
    return AuditLog(Path(site.state))


def _say(text: str) -> None:
    Console(highlight=False, markup=False, soft_wrap=True).print(text)


def _print_json(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told, allow_nan=False) + "\n")


@contextmanager
def _friendly() -> Iterator[None]:
    try:
        yield
    except FedFMError as error:
        _explain(error)
        raise typer.Exit(2) from None


def _explain(*errors: FedFMError) -> None:
    console = Console(stderr=True, style="red", highlight=False, markup=False, soft_wrap=True)
    for error in errors:
        console.print(str(error).replace(" — ", "\n  "))

"""``fedfm-study``: what researchers call at the coordinator."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from fedfm.offline import go_offline

go_offline()  # what is imported below reads the environment then

from fedfm.console import say
from server_app import config_command
from server_app.commands.admitting import admit, revoke, sites
from server_app.commands.console import friendly
from server_app.commands.examining import doctor
from server_app.commands.joining import certificates, init, tunnel
from server_app.commands.running import run, serve
from server_app.demo_data import make_demo_data
from server_app.settings_page import settings_page

app = typer.Typer(
    help="The coordinator's side of fedfm: see the configuration, make demo data, simulate a federation, read reports.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(init)
app.command()(certificates)
app.command()(tunnel)
app.command()(admit)
app.command("sites")(sites)
app.command()(revoke)
app.command()(doctor)
app.command()(run)
app.command()(serve)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes of conf/study.yaml, for example: adapter=head rounds=3 privacy.epsilon=2"),
]


@app.command()
def config(
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")] = False,
) -> None:
    """Show the resolved study and where each value comes from; nothing is run.

    The same overrides go to a real federation:
    flwr run . demo --run-config 'overrides="adapter=head rounds=3"'
    """
    with friendly():
        config_command.show(overrides or [], as_json)


@app.command()
def plan(  # noqa: PLR0913 - one parameter for each option of the command line
    overrides: Overrides = None,
    *,
    patients: Annotated[
        str, typer.Option(help="Declared training patients of a site, with commas between several sizes.")
    ] = "",
    sites: Annotated[int, typer.Option(min=0, help="Sites that are averaged; 0: as the study says.")] = 0,
    parameters: Annotated[int, typer.Option(min=0, help="Trained parameters; 0: load the model and count them.")] = 0,
    max_epsilon: Annotated[float, typer.Option(min=0.01, help="Most that a hospital's policy allows in all.")] = 3.0,
    least_noise: Annotated[float, typer.Option(min=0, help="Least noise multiplier that a policy allows.")] = 0.3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")] = False,
) -> None:
    """Say what a study would spend, how loud its noise would be and what is left to learn; nothing is trained.

    The exit code is 1 where a hospital of a named size would refuse or the noise would drown what it can say; the
    plan says then what would be feasible.

    Example: fedfm-study plan adapter=head privacy.epsilon=1 --patients 200,400,1000 --sites 4
    """
    from server_app import planning_command  # noqa: PLC0415 - the accountant imports torch; other commands need not
    from server_app.planning_feasible import Caps  # noqa: PLC0415

    with friendly():
        caps = Caps(max_epsilon=max_epsilon, least_noise=least_noise)
        wishes = planning_command.Wishes(_sizes(patients), sites, parameters, caps, as_json)
        feasible = planning_command.show(overrides or [], wishes)
    if not feasible:
        raise typer.Exit(1)


@app.command()
def settings(
    name: Annotated[str, typer.Argument(help="One setting, for example privacy.epsilon; all where left out.")] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="The page of docs/settings.md, as it is.")] = False,
) -> None:
    """Say what the settings of a study and a site mean: type, default, unit, allowed values."""
    with friendly():
        if markdown:
            sys.stdout.write(settings_page())
        elif name:
            config_command.explain(name)
        else:
            Console().print(Markdown(settings_page()))


@app.command("make-demo-data")
def make_demo_data_command(
    folder: Annotated[Path, typer.Argument(help="Gets one sub-folder for each hospital.")],
    sites: Annotated[int, typer.Option(min=1, max=1000, help="Hospitals.")] = 4,
    patients: Annotated[int, typer.Option(min=20, max=1_000_000, help="Patients of each hospital.")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="The same seed writes the same files.")] = 1,
    shortcut: Annotated[
        bool, typer.Option(help="Whether the scanner tag betrays the outcome at the third hospital.")
    ] = True,
) -> None:
    """Write synthetic hospitals with notes, site files, public notes and planted facts to check a run against."""
    with friendly():
        for path in make_demo_data(folder, sites=sites, patients=patients, seed=seed, shortcut=shortcut):
            say(f"wrote {path}")


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="Holds one sub-folder with a site file for each hospital.")],
    overrides: Overrides = None,
    results: Annotated[
        Path | None, typer.Option(help="Where runs are written; else $FEDFM_RESULTS, else results.")
    ] = None,
    site_file: Annotated[str, typer.Option(help="Name of the site file in each sub-folder.")] = "site.yaml",
    resume: Annotated[str, typer.Option(help="An interrupted run in the results, or latest: it goes on.")] = "",
) -> None:
    """Run a study over hospitals on this machine, in one process.

    Coordinator and sites are the code of a real federation, only the network is left out. The sites' privacy
    ledgers are charged as in a real run; to begin anew, delete the sites' state folders and
    ledgers.json beside the sites.

    Example: fedfm-study make-demo-data demo && fedfm-study simulate demo rounds=3
    """
    from server_app.simulate import find_sites, simulate  # noqa: PLC0415 - imports torch; the other commands need not

    with friendly():
        root = results or Path(os.environ.get("FEDFM_RESULTS", "") or "results")
        simulate(find_sites(folder, site_file=site_file), overrides=overrides or [], results=root, resume=resume)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run, for example results/latest.")],
    beside: Annotated[
        Path | None, typer.Option(help="Folder of another run that the report sets this one beside.")
    ] = None,
) -> None:
    """Render a run's report.html, privacy.md, metrics.csv and manifest.json again, from its events.jsonl alone.

    Example, what reweighting has done: fedfm-study report results/latest --beside results/20260131-120000-demo
    """
    from server_app.report.page import write_report  # noqa: PLC0415 - imports torch; the other commands need not

    with friendly():
        judged = write_report(run, other=beside)
        for text in (judged.headline, judged.gain, judged.privacy, *judged.reasons):
            if text:
                say(text)
        say(f"Report: {(run / 'report.html').resolve()}")
    if judged.status != "completed":
        raise typer.Exit(1)


def _sizes(text: str) -> list[int]:
    words = [word for word in text.replace(",", " ").split() if word]
    wrong = [word for word in words if not (word.isascii() and word.isdecimal() and int(word) >= 2)]
    if wrong:
        raise typer.BadParameter(
            f"{wrong[0]!r} is not a number of patients; write for example 200,400", param_hint="--patients"
        )
    return [int(word) for word in words]

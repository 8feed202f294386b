"""``fedfm-study run`` and ``serve``: a study is started and followed, and its report is shown."""

import os
import shlex
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from fedfm.console import say
from server_app import admission, runs
from server_app.commands.console import friendly
from server_app.commands.joining import Authority, Superlink


def run(  # noqa: PLR0913 - options of a command
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Changes of conf/study.yaml, for example: adapter=head rounds=3 privacy.epsilon=2"),
    ] = None,
    *,
    app: Annotated[Path, typer.Option(help="Folder with pyproject.toml, fedfm, server_app, client_app and conf.")],
    superlink: Superlink = "127.0.0.1:8000",
    authority: Authority = Path("certificates/ca.crt"),
    more: Annotated[
        str, typer.Option(envvar="FEDFM_OVERRIDES", help="Changes in one text; those written out win over them.")
    ] = "",
    resume: Annotated[
        str, typer.Option(help="An interrupted run in the coordinator's results, or latest: it goes on where it was.")
    ] = "",
    once: Annotated[bool, typer.Option("--once", help="Do nothing where a run has completed before.")] = False,
) -> None:
    """Start a study on a SuperLink, show what its ServerApp says, and wait for the verdict.

    The exit code is 0 only if the run completed. Interrupting this command leaves the run going.

    Example: fedfm-study run --app . experiment=demo rounds=3; after an interruption:
    fedfm-study run --app . --resume latest
    """
    with friendly(), closing(admission.client(superlink, authority)) as control, tempfile.TemporaryDirectory() as home:
        if once and runs.has_completed(control):
            say("A run has completed here before; nothing is run again.")
            return
        runs.write_connection(Path(home), superlink, authority.resolve())
        changes = shlex.join(overrides or [])
        asked = {"resume": resume, "overrides": changes if resume else " ".join(filter(None, [more, changes]))}
        started = runs.start_run(app, asked=asked, environment={**os.environ, "FLWR_HOME": home})
        status = runs.follow(control, started, _tell)
        say(f"run {started}: {'completed' if status.completed else 'not completed'} {status.details}".rstrip())
    if not status.completed:
        raise typer.Exit(1)


def serve(
    results: Annotated[Path, typer.Argument(help="Folder in which runs are written.")],
    host: Annotated[str, typer.Option(help="Address to listen on; what reaches it can read every report.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for a free one.")] = 8080,
) -> None:
    """Show the report of the latest run, and those of earlier ones, to a browser on this machine.

    Example: fedfm-study serve results
    """
    from server_app.report.server import serve_reports  # noqa: PLC0415 - only this command listens

    with friendly():
        serve_reports(results, host=host, port=port, tell=say)


def _tell(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

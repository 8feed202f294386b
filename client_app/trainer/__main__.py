"""``python -m client_app.trainer SITE_FILE --socket PATH``: the trainer as a process of its own."""

import logging
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from fedfm.offline import go_offline

go_offline()  # what is imported below reads the environment then

import torch

from client_app.cohorts import device_of
from client_app.trainer.service import serve
from client_app.trainer.warm import Trainer
from fedfm.config.compose import load_site
from fedfm.errors import FedFMError


def main(
    site_file: Annotated[Path, typer.Argument(help="The hospital's site.yaml.")],
    socket: Annotated[Path, typer.Option(help="Unix socket to serve on.")] = Path("/run/fedfm/trainer.sock"),
) -> None:
    """Serve one hospital's trainer on a unix socket until SIGTERM. Prints "ready" when it serves."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        _serve(site_file, socket)
    except FedFMError as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(2) from None


def _serve(site_file: Path, socket: Path) -> None:
    site = load_site(site_file)
    if site.threads:
        torch.set_num_threads(site.threads)
    device_of(site)
    trainer = Trainer(site)
    trainer.ledger.charges()  # a damaged ledger is found now, not in round 1
    stopped = threading.Event()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, lambda *_: stopped.set())
    server = serve(trainer, socket)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    stopped.wait()
    server.stop(grace=2).wait()
    socket.unlink(missing_ok=True)


if __name__ == "__main__":
    typer.run(main)

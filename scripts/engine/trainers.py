"""The trainers of several sites on one machine, from one import of torch.

    python -m scripts.engine.trainers LOGS SITE_FILE SOCKET [SITE_FILE SOCKET ...]

At a hospital each trainer is a process started by hand or by a container. On a laptop, four
imports of torch would take turns on two cores; here they are forks of one process that
imported it and did nothing else. Each writes to ``LOGS/trainer-<n>.log``, n counting from 0.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import typer

from client_app.trainer.__main__ import main as serve_one_site
from scripts.engine.processes import end_with_parent


def main(logs: Path, pairs: Sequence[tuple[str, str]]) -> int:
    """Serve every site until SIGTERM or until one of them fails; return 1 if one did."""
    children: dict[int, str] = {}
    for number, (site_file, socket) in enumerate(pairs):
        pid = _fork(site_file, socket, logs / f"trainer-{number}.log")
        children[pid] = site_file
        sys.stdout.write(f"process {pid} is the trainer of {site_file}, log trainer-{number}.log\n")
    sys.stdout.flush()

    def stop(*_: int | FrameType | None) -> None:
        for pid in children:
            os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    failed = False
    while children:
        pid, status = os.wait()
        site_file, code = children.pop(pid), os.waitstatus_to_exitcode(status)
        sys.stdout.write(f"the trainer of {site_file} ended with {code}\n")
        sys.stdout.flush()
        if code > 0 and not failed:  # a signal is somebody's will, a code is a failure
            failed = True
            stop()
    return int(failed)


def _fork(site_file: str, socket: str, log: Path) -> int:
    if pid := os.fork():
        return pid
    if end_with_us := end_with_parent():
        end_with_us()
    with log.open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    sys.argv = ["client_app.trainer", site_file, "--socket", socket]
    typer.run(serve_one_site)  # leaves by SystemExit
    raise AssertionError("typer.run returned")


if __name__ == "__main__":
    named = sys.argv[2:]
    sys.exit(main(Path(sys.argv[1]), list(zip(named[::2], named[1::2], strict=True))))

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
    children: dict[int, Path] = {}
    for number, (site_file, socket) in enumerate(pairs):
        log = logs / f"trainer-{number}.log"
        pid = _fork(site_file, socket, log)
        children[pid] = log
        _say(f"process {pid} is the trainer of {site_file}, log {log.name}")

    def stop(*_: int | FrameType | None) -> None:
        for pid in children:
            os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    failed = False
    while children:
        pid, status = os.wait()
        log, code = children.pop(pid), os.waitstatus_to_exitcode(status)
        _say(f"process {pid} ended with {code}")
        if code > 0 and not failed:  # a signal is somebody's will, a code is a failure
            failed = True
            stop()
            _say(log.read_text(errors="replace"))
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


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    named = sys.argv[2:]
    sys.exit(main(Path(sys.argv[1]), list(zip(named[::2], named[1::2], strict=True))))

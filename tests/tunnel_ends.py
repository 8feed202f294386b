"""Ends of a tunnel as processes."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.tls import free_port


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)


@contextmanager
def program(log: Path, *command: str, ready: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has begun to listen, and has written no traceback in the end."""
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            until(lambda: process.poll() is not None or answers(ready))
            assert process.poll() is None, log.read_text()
            yield process
        finally:
            process.terminate()
            process.wait(timeout=10)
    assert "Traceback" not in log.read_text()


def answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def coordinators_end(folder: Path, superlink: str) -> Iterator[str]:
    """The coordinator's end of the tunnel, before a SuperLink; gives its address. Its log is beside the folder."""
    here = f"127.0.0.1:{free_port()}"
    words = (sys.executable, "-m", "server_app.tunnel", str(folder), "--listen", here, "--superlink", superlink)
    with program(folder.with_name("coordinator.log"), *words, ready=here):
        yield here


@contextmanager
def hospitals_end(folder: Path, coordinator: str) -> Iterator[str]:
    """A hospital's end of the tunnel; gives its address. Its log is in the folder."""
    here = f"127.0.0.1:{free_port()}"
    words = (sys.executable, "-m", "client_app.tunnel", str(folder), "--listen", here, "--coordinator", coordinator)
    with program(folder / "log", *words, ready=here):
        yield here

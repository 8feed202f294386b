"""Whether a program of this container answers:  ``python -m fedfm.health tcp HOST:PORT`` or ``unix PATH``.

For the health checks of containers, every few seconds: imports nothing but sockets, sends nothing.
"""

import socket
import sys
from collections.abc import Callable

SECONDS = 3.0


def over_tcp(address: str) -> None:
    """Connect to ``host:port``."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=SECONDS).close()


def over_unix(path: str) -> None:
    """Connect to a unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(SECONDS)
        probe.connect(path)


WAYS: dict[str, Callable[[str], None]] = {"tcp": over_tcp, "unix": over_unix}


def main(arguments: list[str]) -> int:
    """Return 0 if every ``way address`` pair answers, else 1 and say which does not."""
    for way, address in zip(arguments[::2], arguments[1::2], strict=True):
        try:
            WAYS[way](address)
        except OSError as error:
            sys.stderr.write(f"{way} {address} does not answer: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The coordinator's end of the tunnel: only holders of an admitted certificate reach the SuperLink's Fleet port.

``python -m server_app.tunnel FOLDER --listen 0.0.0.0:9093 --superlink superlink:9092``
"""

import argparse
import asyncio
import logging
import socket
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from fedfm.tunnel import HANDSHAKE, Plain, Tls, is_pinned, pass_on, secured, serve, server_context
from server_app.tunnel_admission import ADMITTED, Admitted, read_admitted

LOOK_EVERY = 0.5
"""Seconds between two looks at the list of who is admitted."""
MOST = 512
"""Most connections at once; more are ended before TLS, as strangers may open any number."""

_log = logging.getLogger(__name__)


@dataclass
class Gate:
    """Who may pass, as the list says now.

    Attributes:
        folder: Holds the tunnel's key and certificate, and the folder ``admitted`` with the list.
        admitted: From the list; empty, so that nobody passes, where it is damaged.
        context: Of new connections.
    """

    folder: Path
    admitted: Admitted = field(default_factory=dict)
    context: ssl.SSLContext = field(init=False)
    _mark: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        self.context = server_context(self.folder, ())
        self.look()

    def look(self) -> None:
        """Read the list if it has changed."""
        file = self.folder / "admitted" / ADMITTED
        try:
            found = file.stat()
            mark: tuple[int, ...] = (found.st_mtime_ns, found.st_ino, found.st_size)
        except OSError:
            mark = ()
        if mark == self._mark:
            return
        try:
            self.admitted = read_admitted(file)
        except (OSError, ValueError) as error:
            _log.error("STUDY-E088 the list cannot be read, so nobody passes: %s", type(error).__name__)
            self.admitted = {}
        try:
            self.context = server_context(self.folder, self.admitted)
        except (OSError, ValueError) as error:  # the key is being exchanged, or lost: looked at again in a moment
            _log.error("STUDY-E088 the key cannot be read, so nobody passes: %s", type(error).__name__)
            self.admitted = {}
            return
        self._mark = mark
        _log.info("admitted: %s", ", ".join(sorted(set(self.admitted.values()))) or "nobody")

    def site_of(self, shown: bytes) -> str:
        """Return the site whose certificate (DER) this is, if it may pass now; else nothing."""
        now = datetime.now(UTC)
        lasting = [each for each in self.admitted if each.not_valid_after_utc > now]
        return next((self.admitted[each] for each in lasting if is_pinned(shown, [each])), "")


@dataclass
class Passing:
    """Connections that are open, each with the certificate (DER) that it showed, empty before that."""

    gate: Gate
    superlink: tuple[str, int]
    live: "dict[asyncio.Task[None], bytes]" = field(default_factory=dict)

    async def answer(self, outside: Plain) -> None:
        """Let a hospital through to the SuperLink for as long as it is admitted."""
        task = asyncio.current_task()
        if task is None or len(self.live) >= MOST:
            return
        self.live[task] = b""
        try:
            await self._admitted(task, outside)
        except OSError as error:  # a health check ends without a word
            if isinstance(error, ssl.SSLError):
                _log.warning("refused %s: %s", _host(outside), getattr(error, "verify_message", "") or error.reason)
        finally:
            del self.live[task]

    async def watch(self) -> None:
        """End the connections of those who are not admitted any more."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self.gate.look()
            for task, shown in self.live.items():
                if shown and not self.gate.site_of(shown):
                    task.cancel()

    async def _admitted(self, task: "asyncio.Task[None]", outside: Plain) -> None:
        hospital = await secured(outside, self.gate.context)
        if not (site := self.gate.site_of(hospital.shown)):  # put out since then, or signed by one that is admitted
            _log.warning("refused %s: not the certificate that was admitted", _host(outside))
            return
        self.live[task] = hospital.shown
        try:
            await self._through(hospital, site)
        except asyncio.CancelledError:
            _log.warning("ended %s from %s: not admitted any more", site, _host(outside))
            outside.writer.transport.abort()
            raise

    async def _through(self, hospital: Tls, site: str) -> None:
        try:
            inside = Plain(*await asyncio.wait_for(asyncio.open_connection(*self.superlink), HANDSHAKE))
        except OSError as error:
            _log.error("%s cannot pass: the SuperLink at %s:%d does not answer: %s", site, *self.superlink, error)
            return
        _log.info("%s passes", site)
        try:
            await pass_on(hospital, inside)
        except OSError as error:
            _log.info("%s is gone: %s", site, type(error).__name__)


async def run(listener: socket.socket, gate: Gate, superlink: tuple[str, int]) -> None:
    """Let admitted hospitals through to ``superlink`` (host, port), until cancelled."""
    passing = Passing(gate, superlink)
    watching = asyncio.ensure_future(passing.watch())
    try:
        await serve(listener, passing.answer)
    finally:
        watching.cancel()


def main(arguments: Sequence[str]) -> int:
    """Serve until ended; 1 where the files cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m server_app.tunnel", description=__doc__)
    parser.add_argument("folder", type=Path, help="what fedfm-study tunnel has made")
    parser.add_argument("--listen", required=True, help="host:port that hospitals reach")
    parser.add_argument("--superlink", required=True, help="host:port of the SuperLink's Fleet API")
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        gate, listener = Gate(asked.folder), socket.create_server(_pair(asked.listen))
    except OSError as error:
        sys.stderr.write(f"STUDY-E088 the tunnel cannot start: {error}\n")
        return 1
    asyncio.run(run(listener, gate, _pair(asked.superlink)))
    return 0


def _host(connection: Plain) -> str:
    return str((connection.writer.get_extra_info("peername") or ("somebody",))[0])


def _pair(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

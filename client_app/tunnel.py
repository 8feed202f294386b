"""The hospital's end of the tunnel: the SuperNode connects to it in the place of the coordinator.

``python -m client_app.tunnel FOLDER --listen 0.0.0.0:9092 --coordinator fl.example.org:9092``
"""

import argparse
import asyncio
import logging
import os
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography import x509

from client_app.doctor.reaching import Address, connected, proxy_for, read_address
from fedfm.certificates import read_certificates
from fedfm.errors import ConfigError, EngineError, FedFMError
from fedfm.tunnel import Plain, Tls, client_context, is_pinned, pass_on, secured, serve
from fedfm.tunnel_certificates import CERTIFICATE, KEY

PEER = "coordinator.crt"
"""The certificate of the coordinator's end; several while it changes from one to the next."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class End:
    """All that the hospital's end needs.

    Attributes:
        address: Of the coordinator's end.
        pinned: Certificates of which that end must hold one.
        context: Of connections to it.
        dial: Connects to it, through a proxy where there is one.
    """

    address: Address
    pinned: Sequence[x509.Certificate]
    context: ssl.SSLContext
    dial: Callable[[], socket.socket]


def end_at(address: Address, folder: Path, proxy: Address | None = None) -> End:
    """Return a hospital's end with the files in ``folder``.

    Raises:
        ConfigError: They are not there or cannot be used (SITE-E149).
    """
    try:
        pinned = read_certificates(folder / PEER)
        context = client_context(folder, pinned)
    except (OSError, ValueError) as error:
        why = error.strerror or type(error).__name__ if isinstance(error, OSError) else "no certificate"
        raise ConfigError(
            "SITE-E149",
            "a key or certificate of the tunnel cannot be read",
            where=f"{folder}: {KEY}, {CERTIFICATE}, {PEER}",
            found=str(why),
            fix="make them with fedfm-site tunnel; the tunnel's container alone has the key, so look there",
        ) from error
    return End(address, pinned, context, partial(connected, address, proxy))


def refused(error: ssl.SSLError, address: Address) -> EngineError:
    """Return why TLS between the two ends failed, which an alert of the coordinator's end or our own check says."""
    reason = (error.reason or "").replace("_", " ").lower()
    if "alert" in reason:
        fix = "send the coordinator the site.pub that fedfm-site tunnel has written, or ask whether it was revoked"
        fix = "make another with fedfm-site tunnel, and send site.pub" if "expired" in reason else fix
        what = "the coordinator's tunnel does not admit this hospital's tunnel certificate"
        return EngineError("SITE-E236", what, where=str(address), found=reason, fix=fix)
    return stranger(address, getattr(error, "verify_message", "") or reason or type(error).__name__)


def stranger(address: Address, found: str) -> EngineError:
    """Return the error for an end that does not hold the coordinator's certificate."""
    return EngineError(
        "SITE-E238",
        "what answers is not the coordinator's tunnel",
        where=str(address),
        found=found,
        fix=f"ask the coordinator for its present tunnel.crt, to be {PEER} here, and for the port of its tunnel; ask "
        "your IT for a proxy that inspects TLS",
    )


async def run(listener: socket.socket, end: End) -> None:
    """Carry every connection to ``listener`` to the coordinator's end, until cancelled."""
    await serve(listener, partial(_carried, end))


async def _carried(end: End, inside: Plain) -> None:
    try:
        if first := await inside.read():  # else a health check, of which the coordinator need not hear
            outside = await _reached(end)
            await outside.write(first)
            await pass_on(inside, outside)
    except FedFMError as error:
        _log.error("%s", error)
    except ssl.SSLError as error:
        _log.error("%s", refused(error, end.address))
    except OSError as error:
        _log.info("a connection ended: %s", type(error).__name__)


async def _reached(end: End) -> Tls:
    connection = await asyncio.to_thread(end.dial)
    connection.setblocking(False)
    outside = await secured(Plain(*await asyncio.open_connection(sock=connection)), end.context, host=end.address.host)
    if not is_pinned(outside.shown, end.pinned):
        outside.close()
        raise stranger(end.address, "a certificate that one of those pinned has signed")
    return outside


def main(arguments: Sequence[str]) -> int:
    """Serve until ended; 1 where the files cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m client_app.tunnel", description=__doc__)
    parser.add_argument("folder", type=Path, help="what fedfm-site tunnel has made")
    parser.add_argument("--listen", required=True, help="host:port that the SuperNode reaches")
    parser.add_argument("--coordinator", required=True, help="host:port of the coordinator's tunnel")
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        address = read_address(asked.coordinator)
        end = end_at(address, asked.folder, proxy_for(address, os.environ))
        here = read_address(asked.listen)
        listener = socket.create_server((here.host, here.port))
    except FedFMError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    _log.info("carries %s to %s", here, address)
    asyncio.run(run(listener, end))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

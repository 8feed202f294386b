"""The tunnel, where a hospital has one: its files, whether the coordinator's end lets it in, and the way through it."""

import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from client_app.doctor.reaching import Address, connected, proxy_for, read_address
from client_app.tunnel import End, end_at, refused, run, stranger
from fedfm.certificates import Flaw, Kind, key_file_flaws, read_certificates, time_flaws
from fedfm.config.site import Network
from fedfm.errors import FedFMError
from fedfm.findings import Finding, of_error
from fedfm.tunnel import in_background, is_pinned
from fedfm.tunnel_certificates import CERTIFICATE, KEY

_PROBE = b"fedfm-site doctor\r\n\r\n"
"""No TLS, so that what is behind the tunnel ends the connection, and nothing is sent that a SuperLink would take."""
_MAKE = "fedfm-site tunnel makes another; then send the coordinator site.pub"
_CODES: dict[Kind, tuple[str, str]] = {
    "expired": ("SITE-E237", f"{_MAKE}; if this machine's clock is wrong, set it (NTP)"),
    "expires_soon": ("SITE-W237", _MAKE),
    "not_yet_valid": ("SITE-E148", "set this machine's clock (NTP)"),
    "key_mismatch": ("SITE-E123", f"put the pair back that belongs together, or: {_MAKE}"),
    "key_readable": (
        "SITE-E124",
        "chmod 0440, and chown it to the user and group of the tunnel's container, 10006:10000",
    ),
}

Dial = Callable[[], socket.socket]


@dataclass(frozen=True)
class Way:
    """How the coordinator is reached.

    Attributes:
        dial: Connects to what speaks the coordinator's own TLS.
        target: ``host:port`` of that, which is this process's end of the tunnel where there is one.
    """

    dial: Dial
    target: str


def first_stop(network: Network) -> Address:
    """Return where connections go first: the tunnel where there is one, else the coordinator.

    Raises:
        ConfigError: No ``host:port``.
    """
    return read_address(network.tunnel or network.coordinator)


def own_files(network: Network, folder: Path, now: datetime) -> Iterator[Finding]:
    """Yield what is to be said of the tunnel's own key and certificate; nothing without a tunnel."""
    if not network.tunnel:
        return
    try:
        end_at(first_stop(network), folder / network.tunnel_files)
        certificate = read_certificates(folder / network.tunnel_files / CERTIFICATE)[0]
    except FedFMError as error:
        yield from of_error("keys", "tunnel", error)
        return
    flaws = [*time_flaws(certificate, now), *key_file_flaws(folder / network.tunnel_files / KEY, certificate)]
    yield from (_finding(flaw) for flaw in flaws)
    if not flaws:
        yield Finding(
            "keys", "tunnel", "pass", f"valid until {certificate.not_valid_after_utc:%Y-%m-%d}, its key private"
        )


def let_in(network: Network, folder: Path, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yield that the coordinator's tunnel lets this hospital in; nothing without a tunnel.

    Raises:
        EngineError: It does not (SITE-E236), or it is not the coordinator's (SITE-E238).
    """
    if not network.tunnel:
        return
    end = _end(network, folder, environment)
    try:
        with end.dial() as plain, end.context.wrap_socket(plain, server_hostname=end.address.host) as outer:
            if not is_pinned(outer.getpeercert(binary_form=True) or b"", end.pinned):
                raise stranger(end.address, "a certificate that one of those pinned has signed")
            outer.sendall(_PROBE)
            outer.recv(1)  # of TLS 1.3 a client hears that it is refused with the first bytes, or their end
    except ssl.SSLError as error:
        raise refused(error, end.address) from error
    except OSError as error:
        raise stranger(end.address, error.strerror or type(error).__name__) from error
    yield Finding("network", "tunnel", "pass", "the coordinator's tunnel lets this hospital in")


@contextmanager
def way(network: Network, folder: Path, environment: Mapping[str, str]) -> Iterator[Way]:
    """Give the way to the coordinator: through an end of the tunnel in this process, where the hospital has one.

    Raises:
        FedFMError: An address is none, or files of the tunnel cannot be read.
    """
    if not network.tunnel:
        address = read_address(network.coordinator)
        yield Way(lambda: connected(address, proxy_for(address, environment)), str(address))
        return
    with in_background(partial(run, end=_end(network, folder, environment))) as port:
        near = Address("127.0.0.1", port)
        yield Way(lambda: connected(near), str(near))


def _end(network: Network, folder: Path, environment: Mapping[str, str]) -> End:
    address = first_stop(network)
    return end_at(address, folder / network.tunnel_files, proxy_for(address, environment))


def _finding(flaw: Flaw) -> Finding:
    code, fix = _CODES.get(flaw.kind, ("SITE-E149", _MAKE))
    return Finding("keys", "tunnel", "fail" if flaw.is_fatal else "warn", flaw.what, code, fix)

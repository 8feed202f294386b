"""The way to the coordinator: address, proxy, connection, TLS with the authority that was handed over, HTTP/2."""

import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from client_app.doctor.examined import Examined
from client_app.doctor.keys import as_finding, read_authority
from client_app.doctor.reaching import PROXY_VARIABLES, TIMEOUT, Address, connected, proxy_for, read_address
from client_app.doctor.tunnel import first_stop, let_in, way
from fedfm.certificates import Flaw, host_flaws, issuer_flaws, strength_flaws, time_flaws
from fedfm.config.site import Network
from fedfm.errors import EngineError, FedFMError
from fedfm.findings import Finding, of_error

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)  # a client's first words, settings empty
_CHAIN = frozenset({2, 7, 18, 19, 20, 21})
"""OpenSSL's numbers for a chain that leads to no authority that is trusted."""

Dial = Callable[[], socket.socket]


def findings(examined: Examined) -> Iterator[Finding]:
    """Yield what is to be said of the way to the coordinator that ``network`` names."""
    yield from checks(examined.site.network, examined.file.parent, os.environ)


def checks(
    network: Network,
    folder: Path,
    environment: Mapping[str, str],
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[Finding]:
    """Yield the same for files that are named relative to ``folder``, and the variables of an environment."""
    if not network.coordinator:
        yield Finding("network", "address", "skip", "network.coordinator is not set: this hospital joins none yet")
        return
    check = "address"
    try:
        address = read_address(network.coordinator)
        yield Finding("network", check, "pass", str(address))
        first = first_stop(network)
        proxy = proxy_for(first, environment)
        yield _told_of_proxies(proxy, environment)
        check = "connection"
        began = time.monotonic()
        connected(first, proxy).close()
        took = 1000 * (time.monotonic() - began)
        by = f", by way of the proxy {proxy}" if proxy else ""
        by += f", at the tunnel {first}" if network.tunnel else ""
        yield Finding("network", check, "pass", f"something listens; connected in {took:.0f} ms{by}")
        check = "tunnel"
        yield from let_in(network, folder, environment)
        check = "TLS"
        if not network.authority:
            yield Finding("network", check, "skip", "network.authority is not set, so nothing can be trusted")
            return
        with way(network, folder, environment) as there:
            yield from _tls(address, there.dial, folder / network.authority, now)
    except FedFMError as error:
        yield from of_error("network", check, error)


def _told_of_proxies(proxy: Address | None, environment: Mapping[str, str]) -> Finding:
    """Say which variables name a proxy, and which gRPC reads; never what stands in one: it may be a password."""
    every = {name for small in PROXY_VARIABLES for name in (small, small.upper()) if environment.get(name)}
    named = ", ".join(sorted(every))
    if proxy:
        return Finding("network", "proxy", "pass", f"{named} set; gRPC goes by way of {proxy}")
    if every and not every & set(PROXY_VARIABLES):
        what = f"{named} set, which gRPC does not read: it goes the direct way"
        return Finding(
            "network", "proxy", "pass", what, fix="if it must go by the proxy, write the name in small letters"
        )
    told = f"{named} set, and no_proxy names the coordinator" if every else "none in the environment"
    return Finding("network", "proxy", "pass", f"{told}: gRPC goes the direct way")


def _tls(address: Address, dial: Dial, authority: Path, now: Callable[[], datetime]) -> Iterator[Finding]:
    trusted = read_authority(authority)
    try:
        certificate, protocol, version = shaken(strict(authority), address, dial)
    except ssl.SSLCertVerificationError as error:
        shown, *_ = shaken(_trusting(), address, dial)
        flaws = _why(shown, address.host, trusted, error=error, now=now())
        yield from (as_finding("network", "certificate", flaw) for flaw in flaws)
        return
    except OSError as error:
        raise _not_tls(address, dial, error) from error
    yield Finding("network", "TLS", "pass", f"{version}, signed by the study's authority, for {address.host}")
    flaws = [*time_flaws(certificate, now()), *strength_flaws(certificate.public_key(), "the server's key")]
    yield from (as_finding("network", "certificate", flaw) for flaw in flaws)
    if not flaws:
        yield Finding("network", "certificate", "pass", f"valid until {certificate.not_valid_after_utc:%Y-%m-%d}")
    if protocol != "h2":
        raise no_fleet(address, "no HTTP/2 (ALPN h2)")
    yield Finding("network", "HTTP/2", "pass", "offered, as gRPC needs it")


def no_fleet(address: Address, found: str) -> EngineError:
    """Return the error for a port at which something else than Flower's gRPC Fleet API answers."""
    return EngineError(
        "SITE-E147",
        "what answers is not the Fleet API of a Flower 1.39 SuperLink",
        where=str(address),
        found=found,
        fix="compare the port with the coordinator's (9092 is usual; 8000 is its Control API, and not for hospitals), "
        "and ask for its Flower release: from 1.40 on Flower has no gRPC Fleet API",
    )


def _why(
    shown: x509.Certificate,
    host: str,
    trusted: list[x509.Certificate],
    *,
    error: ssl.SSLCertVerificationError,
    now: datetime,
) -> list[Flaw]:
    """Return the flaws for which a certificate was refused."""
    flaws = [*issuer_flaws(shown, trusted)] if error.verify_code in _CHAIN else []
    flaws += [*host_flaws(shown, host), *(flaw for flaw in time_flaws(shown, now) if flaw.is_fatal)]
    flaws = flaws or [flaw for each in trusted for flaw in time_flaws(each, now) if flaw.is_fatal]
    return flaws or [Flaw("other_authority", f"the certificate is refused: {error.verify_message}")]


def shaken(context: ssl.SSLContext, address: Address, dial: Dial) -> tuple[x509.Certificate, str, str]:
    """Return the certificate that is shown, the protocol and the TLS version that were agreed on."""
    context.set_alpn_protocols(["h2"])
    with dial() as raw, context.wrap_socket(raw, server_hostname=address.host) as tls:
        shown = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
        return shown, tls.selected_alpn_protocol() or "", tls.version() or ""


def strict(authority: Path) -> ssl.SSLContext:
    """Return a context that takes a certificate of the study's authority, for the host that is asked, alone."""
    return ssl.create_default_context(cafile=str(authority))


def _trusting() -> ssl.SSLContext:
    """Return a context that takes any certificate, to look at one that was refused; nothing is sent through it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _not_tls(address: Address, dial: Dial, error: OSError) -> EngineError:
    """Return why no TLS came about: the port speaks without it, or somebody between ends it."""
    with dial() as plain:
        plain.settimeout(min(TIMEOUT, 3.0))
        try:
            plain.sendall(_PREFACE)
            answer = plain.recv(64)
        except OSError:
            answer = b""
    if answer[3:4] == b"\x04" or answer.startswith(b"HTTP/"):
        speaks = "HTTP/2" if answer[3:4] == b"\x04" else "HTTP/1.1"
        return EngineError(
            "SITE-E129",
            "the port answers without TLS; nothing of patients' updates may go there",
            where=str(address),
            found=f"plain {speaks}",
            fix="compare the port with the coordinator's; if it is right, its SuperLink was started with --insecure",
        )
    reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else type(error).__name__
    return EngineError(
        "SITE-E128",
        "the connection is ended before TLS comes about",
        where=str(address),
        found=reason,
        fix="a firewall or proxy that looks into TLS does so: ask your IT to exempt the coordinator's host",
    )

"""The running SuperLink: do both its ports answer, who else reaches the one that is not for hospitals, who is in."""

import ipaddress
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509

from fedfm.certificates import host_flaws, issuer_flaws, read_certificates
from fedfm.config.compose import compose_study
from fedfm.errors import FedFMError
from fedfm.findings import Finding, of_error
from server_app import admission
from server_app.certificates import files_of
from server_app.doctor.asked import Asked
from server_app.doctor.identity import as_finding

TIMEOUT = 10.0
_LISTENS = "0A"
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def findings(asked: Asked) -> Iterator[Finding]:
    """Yield what is to be said of the SuperLink, as the coordinator and as a hospital would reach it."""
    authority = files_of(asked.certificates).authority
    try:
        with admission.connected(asked.superlink, authority) as control:
            admitted = admission.sites(control)
    except FedFMError as error:
        yield from of_error("superlink", "Control API", error)
    else:
        yield Finding("superlink", "Control API", "pass", f"answers at {asked.superlink}")
        yield from hospitals(asked, admitted)
    yield from open_to(asked.superlink)
    yield from _fleet(asked.fleet, authority)


def open_to(control: str, tables: tuple[Path, ...] = _TABLES) -> Iterator[Finding]:
    """Yield whether this machine lets others than itself and its own network reach the Control API.

    Whoever reaches it may run code at every hospital: Flower asks for no password there.
    """
    port = int(control.rpartition(":")[2])
    bound = [address for path in tables if path.exists() for address in listening(path.read_text(), port)]
    if not bound:
        what = f"nothing listens on port {port} of this machine, so that this cannot be seen from here"
        yield Finding("superlink", "who reaches it", "skip", what)
        return
    named = ", ".join(sorted(map(str, bound)))
    if any(address.is_unspecified for address in bound):
        what = (
            f"the Control API listens at every address of this machine ({named}); who reaches it runs code at hospitals"
        )
        fix = (
            "start the SuperLink with --host 127.0.0.1, or keep the port inside the coordinator's own network (compose)"
        )
        yield Finding("superlink", "who reaches it", "warn", what, "RUN-W021", fix)
    elif any(not (address.is_loopback or address.is_private) for address in bound):
        what = f"the Control API listens at a public address ({named}); who reaches it runs code at hospitals"
        yield Finding(
            "superlink", "who reaches it", "fail", what, "RUN-E021", "start the SuperLink with --host 127.0.0.1"
        )
    else:
        yield Finding("superlink", "who reaches it", "pass", f"the Control API listens at {named} alone")


def listening(table: str, port: int) -> Iterator[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Yield the addresses at which a port is listened on, from a table of ``/proc/net``."""
    for line in table.splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        host, _, number = local.partition(":")
        if state == _LISTENS and int(number, 16) == port:
            words = [bytes.fromhex(host[start : start + 8])[::-1] for start in range(0, len(host), 8)]
            found = ipaddress.ip_address(b"".join(words))
            yield found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found


def hospitals(asked: Asked, admitted: list[admission.Admitted]) -> Iterator[Finding]:
    """Yield which of the study's hospitals are admitted and online."""
    try:
        wanted = list(compose_study(asked.overrides).value.sites)
    except FedFMError:
        wanted = []  # the group "study" says why
    states = {site.site: site.state for site in admitted if site.state != "revoked"}
    for name in wanted or sorted(states):
        state = states.get(name, "")
        if state == "online":
            yield Finding("superlink", name, "pass", "online")
            continue
        what = f"admitted, and {state}" if state else "not admitted"
        fix = "ask the hospital for fedfm-site doctor" if state else "fedfm-study admit site.pub"
        yield Finding("superlink", name, "warn", what, "RUN-W022", fix)
    if not wanted and not states:
        yield Finding(
            "superlink", "hospitals", "warn", "none is admitted yet", "RUN-W022", "fedfm-study admit site.pub"
        )


def _fleet(fleet: str, authority: Path) -> Iterator[Finding]:
    """Yield whether a hospital that connects to ``fleet`` with ``ca.crt`` gets through to gRPC over TLS."""
    host, _, port = fleet.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    fix = "start the SuperLink with --fleet-api-address; name it as hospitals do with --fleet HOST:PORT"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # what is shown is judged below
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, int(port)), timeout=TIMEOUT) as raw,
            context.wrap_socket(raw, server_hostname=host) as tls,
        ):
            shown = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
            speaks = tls.selected_alpn_protocol()
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", "") or getattr(error, "strerror", "") or type(error).__name__
        yield Finding("superlink", "Fleet API", "fail", f"no TLS at {fleet}: {why}", "RUN-E020", fix)
        return
    trusted = read_certificates(authority) if authority.is_file() else []
    flaws = [*(issuer_flaws(shown, trusted) if trusted else ()), *host_flaws(shown, host)]
    yield from (as_finding("superlink", "Fleet API", flaw) for flaw in flaws)
    if speaks != "h2":
        yield Finding("superlink", "Fleet API", "fail", f"no gRPC at {fleet}", "RUN-E020", fix)
    elif not flaws:
        yield Finding("superlink", "Fleet API", "pass", f"gRPC over TLS at {fleet}, with a certificate for {host}")

"""The coordinator's certificates: do they hold, for whom, how long, and is the key its own."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from fedfm.certificates import (
    Flaw,
    Kind,
    authority_flaws,
    hosts_of,
    issuer_flaws,
    key_file_flaws,
    read_certificates,
    strength_flaws,
    time_flaws,
)
from fedfm.errors import ConfigError, FedFMError
from fedfm.findings import Finding, of_error
from server_app.certificates import files_of, next_files_of
from server_app.doctor.asked import Asked

CODES: dict[Kind, str] = {
    "expired": "RUN-E010",
    "expires_soon": "RUN-W010",
    "other_host": "RUN-E011",
    "other_authority": "RUN-E012",
    "intercepted": "RUN-E012",
    "key_mismatch": "RUN-E013",
    "key_readable": "RUN-E014",
    "weak_key": "RUN-E015",
    "unreadable": "RUN-E015",
    "not_yet_valid": "RUN-E016",
}
_RENEW = "fedfm-study certificates DIR --renew, send ca.crt to every hospital, then --switch"
FIXES: dict[Kind, str] = {
    "expired": _RENEW,
    "expires_soon": _RENEW,
    "other_host": "fedfm-study certificates DIR HOST... --renew, with every name that hospitals write",
    "other_authority": "put back the ca.crt that belongs to server.pem, or make new certificates",
    "intercepted": "put back the ca.crt that belongs to server.pem, or make new certificates",
    "key_mismatch": "run --switch again where a switch was cut short; else put back the pair that belongs together",
    "key_readable": "chmod 0600 the key; if others may have read it, renew and take the old authority out",
    "weak_key": _RENEW,
    "unreadable": "put the file back, or make new certificates",
    "not_yet_valid": "set this machine's clock (NTP)",
}


def findings(asked: Asked, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Iterator[Finding]:
    """Yield what is to be said of the certificates; nothing is connected to."""
    used = files_of(asked.certificates)
    try:
        authorities, server = _read(used.authority), _read(used.server)[0]
    except FedFMError as error:
        yield from of_error("certificates", "files", error)
        return
    yield from _told("authority", authority_flaws(authorities, now()), f"{len(authorities)} in {used.authority.name}")
    flaws = [
        *issuer_flaws(server, authorities),
        *time_flaws(server, now()),
        *strength_flaws(server.public_key(), "the server's key"),
    ]
    yield from _told("server", flaws, f"valid until {server.not_valid_after_utc:%Y-%m-%d}, for {_hosts(server)}")
    yield from _told("key", [*key_file_flaws(used.server_key, server)], "the certificate's own, and private")
    if next_files_of(asked.certificates).server.exists():
        what = "a renewal waits: send ca.crt to every hospital, then --switch"
        yield Finding("certificates", "renewal", "warn", what, "RUN-W011", "fedfm-study certificates DIR --switch")


def as_finding(group: str, check: str, flaw: Flaw) -> Finding:
    """Return what a coordinator is told of a flaw, with its code and what to do here."""
    return Finding(group, check, "fail" if flaw.is_fatal else "warn", flaw.what, CODES[flaw.kind], FIXES[flaw.kind])


def _told(check: str, flaws: list[Flaw], good: str) -> Iterator[Finding]:
    if not flaws:
        yield Finding("certificates", check, "pass", good)
    yield from (as_finding("certificates", check, flaw) for flaw in flaws)


def _hosts(certificate: x509.Certificate) -> str:
    return ", ".join(hosts_of(certificate)) or "no host"


def _read(path: Path) -> list[x509.Certificate]:
    try:
        return read_certificates(path)
    except (OSError, ValueError) as error:
        why = (
            error.strerror or type(error).__name__ if isinstance(error, OSError) else "not of the format that is needed"
        )
        fix = "fedfm-study certificates DIR HOST..., or name the folder that has them with --certificates"
        raise ConfigError("RUN-E015", "a certificate cannot be read", where=str(path), found=why, fix=fix) from error

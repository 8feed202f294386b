"""The files by which a hospital knows the coordinator, and is known by it: the authority and the node key."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from client_app.doctor.examined import Examined
from fedfm.certificates import Flaw, Kind, authority_flaws, privacy_flaws, read_certificates, strength_flaws
from fedfm.config.site import Network
from fedfm.errors import ConfigError, FedFMError
from fedfm.findings import Finding, of_error
from fedfm.node_keys import fingerprint

CODES: dict[Kind, str] = {
    "expired": "SITE-E120",
    "expires_soon": "SITE-W120",
    "other_host": "SITE-E121",
    "other_authority": "SITE-E122",
    "key_mismatch": "SITE-E123",
    "key_readable": "SITE-E124",
    "intercepted": "SITE-E128",
    "not_yet_valid": "SITE-E148",
    "unreadable": "SITE-E149",
    "weak_key": "SITE-E149",
}

FIXES: dict[Kind, str] = {
    "expired": "ask the coordinator to renew it and for its new ca.crt; if this machine's clock is wrong, set it (NTP)",
    "expires_soon": "ask the coordinator whether it renews in time, and for the new ca.crt",
    "other_host": "write a name that it is for in network.coordinator, or ask for a certificate that names this host",
    "other_authority": "ask the coordinator for its present ca.crt, and put it in the place of network.authority",
    "key_mismatch": "put the pair back that belongs together; a new key must be sent to the coordinator",
    "key_readable": "chmod 0600 the key, or 0640 with the group of the service that reads it",
    "intercepted": "a proxy that inspects TLS shows a certificate of its own: ask your IT to exempt the coordinator's "
    "host from inspection; if there is no such proxy, ask the coordinator for its present ca.crt",
    "not_yet_valid": "set this machine's clock (NTP); if it is right, ask the coordinator about its own",
    "unreadable": "ask for the file again, and compare its SHA-256",
    "weak_key": "make another one with fedfm-site init, and send its .pub to the coordinator",
}


def findings(examined: Examined) -> Iterator[Finding]:
    """Yield what is to be said of the files that ``network`` names; nothing is connected to."""
    yield from checks(examined.site.network, examined.file.parent)


def checks(
    network: Network, folder: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Iterator[Finding]:
    """Yield the same for files that are named relative to ``folder``."""
    for check, name, look in (
        ("authority", network.authority, lambda path: _authority(path, now())),
        ("node key", network.node_key, _node_key),
    ):
        if not name:
            setting = check.replace(" ", "_")
            yield Finding(
                "keys", check, "skip", f"network.{setting} is not set: this hospital joins no coordinator yet"
            )
            continue
        try:
            yield from look(folder / name)
        except FedFMError as error:
            yield from of_error("keys", check, error)
    if network.tunnel:
        from client_app.doctor import tunnel  # noqa: PLC0415 - a hospital without one needs none of it

        yield from tunnel.own_files(network, folder, now())


def as_finding(group: str, check: str, flaw: Flaw) -> Finding:
    """Return what a hospital is told of a flaw, with its code and what to do here."""
    return Finding(group, check, "fail" if flaw.is_fatal else "warn", flaw.what, CODES[flaw.kind], FIXES[flaw.kind])


def read_authority(path: Path) -> list[x509.Certificate]:
    """Return the certificates of ``network.authority``.

    Raises:
        ConfigError: There is no such file, or no certificate in it.
    """
    try:
        return read_certificates(path)
    except (OSError, ValueError) as error:
        raise _unreadable("network.authority", path, error, "ask the coordinator for its ca.crt") from error


def read_node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the hospital's private node key, as the SuperNode reads it.

    Raises:
        ConfigError: There is no such file, or what is in it is no elliptic-curve key in OpenSSH's format.
    """
    fix = "make one with fedfm-site init; the SuperNode's container alone has it, so look there"
    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unreadable("network.node_key", path, error, fix) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _unreadable("network.node_key", path, TypeError("another kind of key"), fix)
    return key


def name_of_key(key: ec.EllipticCurvePublicKey) -> str:
    """Return the fingerprint by which a hospital and the coordinator speak of a node key."""
    return fingerprint(key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode())


def _authority(path: Path, now: datetime) -> Iterator[Finding]:
    authorities = read_authority(path)
    flaws = authority_flaws(authorities, now)
    yield from (as_finding("keys", "authority", flaw) for flaw in flaws)
    if not flaws:
        last = max(authority.not_valid_after_utc for authority in authorities)
        of = "one authority" if len(authorities) == 1 else f"{len(authorities)} authorities"
        yield Finding("keys", "authority", "pass", f"{path.name} holds {of}, valid until {last:%Y-%m-%d}")


def _node_key(path: Path) -> Iterator[Finding]:
    key = read_node_key(path)
    flaws = [*privacy_flaws(path), *strength_flaws(key.public_key(), "the node key"), *_pair_flaws(path, key)]
    yield from (as_finding("keys", "node key", flaw) for flaw in flaws)
    if not flaws:
        yield Finding("keys", "node key", "pass", f"{name_of_key(key.public_key())}, private, {key.curve.name}")


def _pair_flaws(path: Path, key: ec.EllipticCurvePrivateKey) -> Iterator[Flaw]:
    """Yield a flaw where the public half beside the key, which goes to the coordinator, is another key's."""
    beside = [each for each in (path.with_name(f"{path.name}.pub"), path.with_name("site.pub")) if each.is_file()]
    for public in beside:
        try:
            same = serialization.load_ssh_public_key(public.read_bytes()) == key.public_key()
        except (OSError, ValueError, UnsupportedAlgorithm):
            same = False
        if not same:
            yield Flaw("key_mismatch", f"{public.name} is not the public half of {path.name}")


def _unreadable(setting: str, path: Path, error: Exception, fix: str) -> ConfigError:
    why = error.strerror or type(error).__name__ if isinstance(error, OSError) else "not of the format that is needed"
    return ConfigError(
        "SITE-E149", "a key or certificate cannot be read", where=f"{setting}: {path}", found=why, fix=fix
    )

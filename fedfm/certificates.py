"""Certificates and keys, judged: may they be trusted, for which host, by whose word, how long?

Both sides ask: a hospital of the coordinator's certificate, a coordinator of its own. Nothing here knows a code or a
remedy; who asks does.
"""

import ipaddress
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

WARN_BEFORE = timedelta(days=30)
LEAST_BITS = {"EC": 256, "RSA": 3072}

Kind = Literal[
    "unreadable",
    "expired",
    "expires_soon",
    "not_yet_valid",
    "other_host",
    "other_authority",
    "intercepted",
    "key_mismatch",
    "key_readable",
    "weak_key",
]


@dataclass(frozen=True)
class Flaw:
    """What is wrong with a certificate or a key.

    Attributes:
        kind: Which of the things that can be.
        what: One clause that names what was found: dates, hosts, an issuer. Nothing secret.
    """

    kind: Kind
    what: str

    @property
    def is_fatal(self) -> bool:
        """Whether no connection can be had, or may be trusted, as it is."""
        return self.kind != "expires_soon"


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Return the certificates of a PEM file, in its order; at least one.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds no certificate.
    """
    return x509.load_pem_x509_certificates(path.read_bytes())


def fingerprint_of(certificate: x509.Certificate) -> str:
    """Return what two people compare by telephone: the SHA-256 that ``openssl x509 -fingerprint -sha256`` says."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def name_of(name: x509.Name) -> str:
    """Return how a person calls the holder: its common name, else all of it."""
    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else name.rfc4514_string()


def hosts_of(certificate: x509.Certificate) -> list[str]:
    """Return the DNS names and IP addresses that a certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def time_flaws(certificate: x509.Certificate, now: datetime) -> Iterator[Flaw]:
    """Yield what is wrong with the days of a certificate at ``now``, which has a time zone."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    whose = f"the certificate of {name_of(certificate.subject)}"
    if now < begins:
        yield Flaw("not_yet_valid", f"{whose} is valid from {_moment(begins)}, and the clock here says {_moment(now)}")
    elif now > ends:
        yield Flaw("expired", f"{whose} expired on {_moment(ends)}; the clock here says {_moment(now)}")
    elif ends - now < WARN_BEFORE:
        yield Flaw("expires_soon", f"{whose} expires on {_moment(ends)}, in {(ends - now).days} days")


def host_flaws(certificate: x509.Certificate, host: str) -> Iterator[Flaw]:
    """Yield what is wrong where ``host`` (a DNS name or an IP address) shows this certificate."""
    named = hosts_of(certificate)
    if not any(_covers(name, host) for name in named):
        yield Flaw("other_host", f"the certificate is for {', '.join(named) or 'no host'}, and not for {host}")


def issuer_flaws(certificate: x509.Certificate, authorities: Sequence[x509.Certificate]) -> Iterator[Flaw]:
    """Yield what is wrong where none of ``authorities`` signed the certificate.

    A proxy that inspects TLS shows a certificate that its own authority signed, under another name than the study's; a
    coordinator that began anew shows one of the same name with another key.
    """
    if any(_signed(certificate, authority) for authority in authorities):
        return
    issuer = name_of(certificate.issuer)
    if certificate.issuer == certificate.subject:
        yield Flaw("other_authority", f"the certificate of {issuer} is signed by itself, not by the study's authority")
    elif certificate.issuer in [authority.subject for authority in authorities]:
        yield Flaw("other_authority", f"the certificate is signed by another {issuer!r} than the one in the file here")
    else:
        own = " or ".join(sorted({repr(name_of(authority.subject)) for authority in authorities}))
        yield Flaw("intercepted", f"the certificate is signed by {issuer!r}, not by the study's {own}")


def strength_flaws(key: object, whose: str) -> Iterator[Flaw]:
    """Yield what is wrong with the length of a public key: curves from P-256 on, RSA from 3072 bits on."""
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        yield Flaw("weak_key", f"{whose} is of a kind that gRPC does not take; EC P-256 or more, or RSA of 3072 bits")
        return
    family = "EC" if isinstance(key, ec.EllipticCurvePublicKey) else "RSA"
    if key.key_size < LEAST_BITS[family]:
        yield Flaw("weak_key", f"{whose} has {key.key_size} bits ({family}); at least {LEAST_BITS[family]} are needed")


def key_file_flaws(path: Path, certificate: x509.Certificate) -> Iterator[Flaw]:
    """Yield what is wrong with a private key in a PEM file, and with its being this certificate's."""
    yield from privacy_flaws(path)
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        yield Flaw(
            "unreadable", f"{path.name} cannot be read as a private key without a password: {type(error).__name__}"
        )
        return
    if key.public_key() != certificate.public_key():
        yield Flaw("key_mismatch", f"{path.name} is not the key of the certificate of {name_of(certificate.subject)}")


def privacy_flaws(path: Path) -> Iterator[Flaw]:
    """Yield what is wrong with the rights of a file that only its owner, or its owner's group, may read.

    A group may read it: in containers a key is shared by the group of one service. Others, and writing, are too much.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return  # whoever reads the file says so
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        yield Flaw("key_readable", f"{path.name} may be read or changed by others than its owner (mode {mode:04o})")


def authority_flaws(authorities: Iterable[x509.Certificate], now: datetime) -> list[Flaw]:
    """Return what is wrong with a file of authorities: nothing as long as one of them has time left.

    A bundle holds the old authority beside the new one while hospitals are switched, so one that is over is no flaw.
    """
    each = [list(time_flaws(authority, now)) for authority in authorities]
    return [] if not all(each) else min(each, key=lambda flaws: flaws[0].is_fatal)


def _covers(name: str, host: str) -> bool:
    """Tell whether a name of a certificate covers a host: equal, or ``*.`` for one label (RFC 6125, 6.4.3)."""
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(host)
    except ValueError:
        name, host = name.lower().rstrip("."), host.lower().rstrip(".")
    if name.startswith("*."):
        return name[2:] == host.partition(".")[2] and not host.startswith(".")
    return name == host


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"

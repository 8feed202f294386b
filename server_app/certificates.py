"""The coordinator's certificates.

Elliptic curve P-384 throughout. The private key is readable by its owner only, and no
file that exists is overwritten: a hospital that trusts a certificate goes on trusting it.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedfm.errors import EngineError
from fedfm.private_files import write_private

VALID = timedelta(days=365)
LOCAL = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Certificates:
    """Where the certificates of a coordinator are.

    Attributes:
        authority: The authority's certificate; every hospital gets this file.
        server: The coordinator's certificate.
        server_key: Its private key; stays at the coordinator.
    """

    authority: Path
    server: Path
    server_key: Path


def make_certificates(directory: Path, hosts: Sequence[str] = LOCAL) -> Certificates:
    """Write an authority and a server certificate for ``hosts``, valid for 365 days.

    The authority's private key is dropped after use, so that nobody can sign a second server.

    Args:
        directory: Made if absent; gets ``ca.crt``, ``server.pem`` and ``server.key``.
        hosts: DNS names and IP addresses under which hospitals reach the coordinator.

    Raises:
        EngineError: A file of that name exists already, or no host was given.
    """
    made = Certificates(directory / "ca.crt", directory / "server.pem", directory / "server.key")
    present = [path.name for path in (made.authority, made.server, made.server_key) if path.exists()]
    if present or not hosts:
        raise EngineError(
            "ENGINE-E101",
            "certificates are never overwritten" if present else "a server certificate needs a host name",
            where=str(directory),
            found=", ".join(present),
            fix="move the old files away first" if present else "name the hosts under which hospitals reach it",
        )
    authority_key, server_key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    authority_name = _name("fedfm authority")
    authority = (
        _unsigned(authority_name, authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA384())
    )
    server = (
        _unsigned(_name(hosts[0]), authority_name, server_key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA384())
    )
    directory.mkdir(parents=True, exist_ok=True)
    write_private(made.server_key, _pem(server_key))
    made.server.write_bytes(server.public_bytes(serialization.Encoding.PEM))
    made.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    return made


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "fedfm"), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def _unsigned(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # a hospital's clock may be a little behind
        .not_valid_after(now + VALID)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

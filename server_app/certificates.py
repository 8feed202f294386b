"""The coordinator's certificates: made once, renewed in two steps, never lost.

Elliptic curve P-384 throughout. The private key is readable by its owner only, and no
file that exists is overwritten: a hospital that trusts a certificate goes on trusting it.

A renewal takes two steps, because hospitals and coordinator cannot change in one instant. ``renew`` makes the next
authority and server certificate, and lets ``ca.crt`` hold the next authority beside the old: a hospital with that
file accepts the coordinator before and after. When all have it, ``switch`` puts the next server certificate in place.
"""

import ipaddress
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedfm.certificates import hosts_of, issuer_flaws, read_certificates
from fedfm.errors import EngineError
from fedfm.private_files import write_private

VALID = timedelta(days=365)
LOCAL = ("localhost", "127.0.0.1")
CONTROL = "control"
"""Name of the Control API among the coordinator's containers."""
NEXT, FORMER = "next", "former"
"""Folders: of a renewal that waits; of what has been replaced, which is not needed any more, and never removed."""


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


def files_of(directory: Path) -> Certificates:
    """Return where the certificates in use are."""
    return Certificates(directory / "ca.crt", directory / "server.pem", directory / "server.key")


def next_files_of(directory: Path) -> Certificates:
    """Return where a renewal waits until the hospitals have its authority."""
    return Certificates(directory / "ca.crt", directory / NEXT / "server.pem", directory / NEXT / "server.key")


def make_certificates(directory: Path, hosts: Sequence[str] = LOCAL) -> Certificates:
    """Write an authority and a server certificate for ``hosts``, valid for 365 days.

    The authority's private key is dropped after use, so that nobody can sign a second server.

    Args:
        directory: Made if absent; gets ``ca.crt``, ``server.pem`` and ``server.key``.
        hosts: DNS names and IP addresses under which hospitals reach the coordinator.

    Raises:
        EngineError: A file of that name exists already, or no host was given.
    """
    made = files_of(directory)
    present = [path.name for path in (made.authority, made.server, made.server_key) if path.exists()]
    if present or not hosts:
        raise EngineError(
            "ENGINE-E101",
            "certificates are never overwritten" if present else "a server certificate needs a host name",
            where=str(directory),
            found=", ".join(present),
            fix="renew them with --renew" if present else "name the hosts under which hospitals reach it",
        )
    _make_open(directory)
    authority, server, key = _signed(hosts)
    write_private(made.server_key, key)
    _put(made.server, server)
    _put(made.authority, authority)
    return made


def renew(directory: Path, hosts: Sequence[str] = ()) -> Certificates:
    """Make the next authority and server certificate, and a ``ca.crt`` that holds both authorities.

    The coordinator goes on with the certificate it has, also after a restart, until ``switch``.

    Args:
        directory: Holds the certificates in use.
        hosts: Of the next certificate, beside ``CONTROL`` where the present one has it; the same as before where empty.

    Returns:
        Where the next certificate waits, and the bundle for every hospital.

    Raises:
        EngineError: There is nothing to renew, or a renewal waits already.
    """
    used, coming = files_of(directory), next_files_of(directory)
    _require(used.authority.is_file() and used.server.is_file(), directory, "there is no certificate to renew")
    _require(not coming.server.exists(), directory, "a renewal waits already", fix="send ca.crt out, then --switch")
    _require_owner(used)
    now = datetime.now(UTC)
    lasting = [each for each in read_certificates(used.authority) if each.not_valid_after_utc > now]
    before = hosts_of(read_certificates(used.server)[0])
    kept = [CONTROL] if CONTROL in before and CONTROL not in hosts else []  # or the containers could not go on
    authority, server, key = _signed([*hosts, *kept] if hosts else before)
    bundle = authority + b"".join(each.public_bytes(serialization.Encoding.PEM) for each in lasting)
    _keep(directory, used.authority)
    _put(used.authority, bundle)  # first: a renewal that is cut short leaves an authority too many, never one too few
    for left in directory.glob(f"{NEXT}-*"):  # of a renewal that was killed: a key that nothing was ever made with
        shutil.rmtree(left)
    draft = Path(tempfile.mkdtemp(prefix=f"{NEXT}-", dir=directory))
    try:
        write_private(draft / coming.server_key.name, key)
        _put(draft / coming.server.name, server)
        for path in (draft / coming.server_key.name, draft):
            _give_to_owner_of(used.server_key, path)
        draft.replace(coming.server.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # gone already where it was renamed
    return coming


def switch(directory: Path) -> Certificates:
    """Put the certificate that a renewal made in the place of the one in use, which goes to ``former``.

    Raises:
        EngineError: No renewal waits, or ``ca.crt`` does not hold its authority, or the key is another user's.
    """
    used, coming = files_of(directory), next_files_of(directory)
    _require(coming.server.exists(), directory, "no renewal waits", fix="begin with --renew")
    _require_owner(used)
    unknown = [*issuer_flaws(read_certificates(coming.server)[0], read_certificates(used.authority))]
    _require(not unknown, directory, "ca.crt does not hold the authority of the renewal", fix="put ca.crt back")
    if coming.server_key.exists():  # else a switch was cut short between the two
        _keep(directory, used.server)
        _keep(directory, used.server_key)
        coming.server_key.replace(used.server_key)
    coming.server.replace(used.server)
    coming.server.parent.rmdir()
    return used


def _signed(hosts: Sequence[str]) -> tuple[bytes, bytes, bytes]:
    """Return a new authority's certificate, and a server certificate that it signed, with its private key; all PEM."""
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
    written = [each.public_bytes(serialization.Encoding.PEM) for each in (authority, server)]
    return written[0], written[1], _pem(server_key)


def _put(path: Path, content: bytes) -> None:
    """Write a file that everybody may read, whole or not at all."""
    draft = path.with_name(f"{path.name}.part")
    draft.write_bytes(content)
    draft.chmod(0o644)  # whatever the umask: hospitals and the SuperLink's own user read it
    draft.replace(path)


def _make_open(directory: Path) -> None:
    """Make a folder that everybody may enter, whatever the umask; one that is there stays as it is."""
    if not directory.exists():
        directory.mkdir(parents=True)
        directory.chmod(0o755)


def _keep(directory: Path, path: Path) -> None:
    """Copy a file that is about to be replaced, under a name of its own, readable by its owner only."""
    folder = directory / FORMER
    folder.mkdir(mode=0o700, exist_ok=True)
    write_private(folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{path.name}", path.read_bytes())


def _give_to_owner_of(like: Path, path: Path) -> None:
    """Let a new key, and its folder, belong to whom the old key does: a SuperLink may have a user of its own."""
    wanted, found = like.stat(), path.stat()
    if path.is_file():
        shutil.copymode(like, path)
    if (wanted.st_uid, wanted.st_gid) != (found.st_uid, found.st_gid):
        os.chown(path, wanted.st_uid, wanted.st_gid)


def _require_owner(used: Certificates) -> None:
    is_owner = os.geteuid() in (0, used.server_key.stat().st_uid)
    what, fix = "server.key belongs to another user", "call it as that user, or as root"
    _require(is_owner, used.server_key.parent, what, fix=fix)


def _require(holds: bool, directory: Path, what: str, *, fix: str = "make one first, without --renew") -> None:
    if not holds:
        raise EngineError("ENGINE-E107", what, where=str(directory), fix=fix)


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

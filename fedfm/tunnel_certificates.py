"""Certificates of mutual TLS between a hospital and the coordinator: made at one end, pinned at the other.

The coordinator's certificate signs itself; a hospital's is signed by its node key, so that whoever has compared the
fingerprint of that key by telephone need not compare another one.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedfm.private_files import write_private

VALID = timedelta(days=365)
KEY, CERTIFICATE = "tunnel.key", "tunnel.crt"
"""Files of either end: what never leaves, and what the other end pins."""


def make_pair(folder: Path, name: str, *, node_key: ec.EllipticCurvePrivateKey | None = None) -> x509.Certificate:
    """Write ``tunnel.key`` (mode 0600) and ``tunnel.crt`` into ``folder``; valid for 365 days.

    Args:
        folder: Is there; has neither file.
        name: Whose certificate it is, for people: a site's id, or ``coordinator``.
        node_key: A hospital's private node key, which signs; the new key itself where None.

    Raises:
        OSError: They cannot be written, or one is there.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    made = _signed(name, key.public_key(), node_key or key, issuer="node key" if node_key else name)
    kind, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    write_private(folder / KEY, key.private_bytes(serialization.Encoding.PEM, kind, none))
    (folder / CERTIFICATE).write_bytes(as_pem([made]))
    return made


def as_pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Return certificates as the text of a file."""
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def carried_by(public_key: bytes) -> x509.Certificate | None:
    """Return the certificate that stands below the key in a ``site.pub``; None where there is none.

    Raises:
        ValueError: What stands there is no certificate, or there are several.
    """
    if b"-----BEGIN" not in public_key:
        return None
    (found,) = x509.load_pem_x509_certificates(public_key)
    return found


def is_signed_by(certificate: x509.Certificate, node_key: ec.EllipticCurvePublicKey) -> bool:
    """Whether the holder of a node key vouches for a certificate."""
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None:
        return False
    try:
        node_key.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(algorithm))
    except InvalidSignature:
        return False
    return True


def _signed(
    name: str, key: ec.EllipticCurvePublicKey, signer: ec.EllipticCurvePrivateKey, *, issuer: str
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # the other end's clock may be a little behind
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(signer, hashes.SHA384())
    )


def _name(common: str) -> x509.Name:
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "fedfm tunnel")
    return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, common)])

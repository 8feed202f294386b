"""Whose certificates the coordinator's end of the tunnel takes: one file, read anew by it whenever it changes."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedfm.errors import ConfigError
from fedfm.tunnel_certificates import as_pem, carried_by, is_signed_by

ADMITTED = "admitted.pem"
"""Its name: a line ``# SITE`` before each certificate."""

_ENTRY = re.compile(r"^# (\S+)\n(-----BEGIN CERTIFICATE-----\n[^-]+-----END CERTIFICATE-----)$", re.MULTILINE)

Admitted = Mapping[x509.Certificate, str]
"""Certificate to the site that holds it."""


def read_admitted(file: Path) -> Admitted:
    """Return who is admitted; nobody where there is no file.

    Raises:
        OSError: It cannot be read.
        ValueError: What stands in it is damaged; nobody of it may be let in.
    """
    if not file.exists():
        return {}
    text = file.read_text(encoding="ascii")
    found = {x509.load_pem_x509_certificate(pem.encode()): site for site, pem in _ENTRY.findall(text)}
    if len(found) != text.count("-----BEGIN"):
        raise ValueError("not an entry of a site and its certificate")
    return found


def certificate_for(public_key: Path) -> x509.Certificate | None:
    """Return the certificate that came with a hospital's public node key, which ``admission.read_public_key`` takes.

    Raises:
        ConfigError: It is damaged, expired, or the node key does not vouch for it (STUDY-E087).
    """
    content = public_key.read_bytes()
    try:
        certificate = carried_by(content)
    except ValueError:
        raise _refused(public_key, "no certificate, or several") from None
    if certificate is None:
        return None
    key = serialization.load_ssh_public_key(content)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not is_signed_by(certificate, key):
        raise _refused(public_key, "one that this node key has not signed")
    if certificate.not_valid_after_utc < datetime.now(UTC):
        raise _refused(public_key, f"one that expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
    return certificate


def pin(folder: Path, site: str, certificate: x509.Certificate) -> None:
    """Let a site's certificate in, beside those of it that have time left: it may change from one to the next.

    Raises:
        ConfigError: The file cannot be read or written (STUDY-E088).
    """
    now = datetime.now(UTC)
    kept = {each: of for each, of in _read(folder).items() if each.not_valid_after_utc > now}
    _write(folder, {**kept, certificate: site})


def unpin(folder: Path, site: str) -> int:
    """Put all of a site's certificates out; return how many there were.

    Raises:
        ConfigError: The file cannot be read or written (STUDY-E088).
    """
    before = _read(folder)
    kept = {each: of for each, of in before.items() if of != site}
    _write(folder, kept)
    return len(before) - len(kept)


def _read(folder: Path) -> Admitted:
    try:
        return read_admitted(folder / ADMITTED)
    except (OSError, ValueError) as error:
        raise _not_kept(folder, error) from error


def _write(folder: Path, admitted: Admitted) -> None:
    """Put the file in place whole, or leave it as it was: the tunnel reads it at any moment."""
    text = b"".join(f"# {site}\n".encode() + as_pem([each]) for each, site in admitted.items())
    draft = folder / f"{ADMITTED}.part"
    try:
        draft.write_bytes(text)
        draft.replace(folder / ADMITTED)
    except OSError as error:
        raise _not_kept(folder, error) from error


def _refused(path: Path, found: str) -> ConfigError:
    return ConfigError(
        "STUDY-E087",
        "the tunnel certificate in this file cannot be let in",
        where=str(path),
        found=found,
        allowed="one that fedfm-site tunnel has made with the node key of the same file",
        fix="let nobody in; ask the hospital for the site.pub that fedfm-site tunnel has written",
    )


def _not_kept(folder: Path, error: Exception) -> ConfigError:
    found = error.strerror or type(error).__name__ if isinstance(error, OSError) else "damaged entries"
    fix = (
        "name the folder that fedfm-study tunnel has made; put a damaged file back from a copy, or admit everybody anew"
    )
    where = str(folder / ADMITTED)
    return ConfigError(
        "STUDY-E088", "the list of tunnel certificates is out of reach", where=where, found=found, fix=fix
    )

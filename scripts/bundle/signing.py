"""The list of a bundle's files with their hashes, and a signature over it.

The installer needs no Python: ``sha256sum`` reads the list, ``openssl`` the key and the signature.
"""

import hashlib
import re
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from fedfm.errors import EngineError
from fedfm.private_files import write_private

LIST, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"
_PLAIN = re.compile(r"[A-Za-z0-9._+/-]+")  # what sha256sum prints as it is, and a shell reads in one piece


def key_of(path: Path, *, outside: Path) -> Ed25519PrivateKey:
    """Return the private key of the file, made with its ``.pub`` where there is none; say its fingerprint.

    Args:
        path: PEM without a passphrase.
        outside: Folder that must not hold it: a key does not travel with what it signs.

    Raises:
        EngineError: The file holds no such key, or lies in the bundle.
    """
    if path.is_relative_to(outside):
        raise _no_key(path, "it lies in the bundle that it signs")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = Ed25519PrivateKey.generate()
        write_private(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        print(f"made a key: {path}. Keep it as you keep the study's other keys")
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm, OSError) as error:
        raise _no_key(path, type(error).__name__) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "a key of another kind")
    public = path.with_name(f"{path.name}.pub")
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    print(f"the hospitals need {public}, by another way than the bundle; its fingerprint:")
    print(f"  SHA256:{fingerprint(key.public_key())}")
    return key


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of the public key (DER), in hexadecimal digits, as the installer prints it."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def sign(folder: Path, key: Ed25519PrivateKey) -> None:
    """List every file of the folder with its hash, and sign the list.

    Raises:
        EngineError: A file is no plain one, or its name is not made of plain letters.
    """
    listed = sums(folder)
    content = "".join(f"{digest}  {name}\n" for name, digest in listed.items()).encode()
    (folder / LIST).write_bytes(content)
    (folder / SIGNATURE).write_bytes(key.sign(content))


def sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file by its name from ``folder``, sorted."""
    found = {}
    for path in sorted(folder.rglob("*"), key=lambda each: each.relative_to(folder).as_posix()):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()) or not _PLAIN.fullmatch(name):
            raise EngineError(
                "ENGINE-E150",
                "a file that a bundle cannot carry",
                where=name,
                allowed="plain files, with names of A-Z a-z 0-9 . _ + -",
                fix="rename it, or take it out",
            )
        if path.is_file():
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _no_key(path: Path, found: str) -> EngineError:
    return EngineError(
        "ENGINE-E153",
        "no key to sign with",
        where=str(path),
        found=found,
        allowed="an Ed25519 private key in PEM, without a passphrase",
        fix="name another file; where it does not exist, a key is made",
    )

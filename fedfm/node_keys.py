"""What two people compare by telephone before a hospital is let in: the fingerprint of its node key."""

import base64
import hashlib


def fingerprint(public_key: str) -> str:
    """Return the fingerprint of a public key as ``ssh-keygen -lf`` writes it.

    Args:
        public_key: A line of an OpenSSH public key file, for example ``"ecdsa-sha2-nistp384 AAAA..."``.

    Raises:
        ValueError: It is no such line.
    """
    _, encoded, *_ = public_key.split()
    digest = hashlib.sha256(base64.b64decode(encoded, validate=True)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

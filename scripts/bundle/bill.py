"""A bill of materials (CycloneDX) from lock files: each package with its version and the hashes that pip accepts."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PACKAGE = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def bill_of(locks: Sequence[Path], *, version: str) -> dict[str, Any]:
    """Return the bill of fedfm with all that the lock files name, sorted; of the same files always the same.

    Source: CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json/
    """
    found: dict[tuple[str, str], set[str]] = {}
    for lock in locks:
        for package, hashes in _entries(lock.read_text()):
            found.setdefault(package, set()).update(hashes)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "name": "fedfm", "version": version, "bom-ref": f"fedfm@{version}"}
        },
        "components": [_component(*package, hashes) for package, hashes in sorted(found.items())],
    }


def _entries(text: str) -> list[tuple[tuple[str, str], set[str]]]:
    """Return name, version and hashes of each package; a line of a lock file that goes on ends in a backslash."""
    joined = text.replace("\\\n", " ").splitlines()
    matched = [(_PACKAGE.match(line), line) for line in joined]
    return [((match[1].lower(), match[2]), set(_HASH.findall(line))) for match, line in matched if match]


def _component(name: str, version: str, hashes: set[str]) -> dict[str, Any]:
    address = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
    return {
        "type": "library",
        "name": name,
        "version": version,
        "purl": address,
        "bom-ref": address,
        "hashes": [{"alg": "SHA-256", "content": digest} for digest in sorted(hashes)],
    }

"""The folder of a coordinator's containers: certificates, secret, ``.env``, and what its people put in."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from fedfm.certificates import fingerprint_of, read_certificates
from fedfm.errors import ConfigError
from fedfm.private_files import make_secret
from fedfm.whole_folder import whole_folder
from server_app.certificates import CONTROL, make_certificates

SUPERLINK, GROUP = 10004, 10000
"""Numbers of the user of the SuperLink's container, and of the group of all containers of fedfm."""

FOLDERS = {"hospitals": "site.pub of hospitals", "weights": "models", "public": "public examples"}
"""What people put in, for the containers to read."""


@dataclass(frozen=True)
class Coordinator:
    """What was made.

    Attributes:
        authority: The ca.crt that every hospital gets.
        fingerprint: Its SHA-256, as openssl writes it.
        private: What only the SuperLink's user may read.
        owned: The files belong to the users of the containers already.
    """

    authority: Path
    fingerprint: str
    private: tuple[Path, ...]
    owned: bool

    @property
    def owner(self) -> str:
        """User and group of the private files."""
        return f"{SUPERLINK}:{GROUP}"


def write_coordinator(folder: Path, hosts: Sequence[str], *, port: int) -> Coordinator:
    """Write a coordinator's folder, whole or not at all.

    Args:
        folder: New, or empty.
        hosts: DNS names and IP addresses under which hospitals reach it.
        port: That hospitals reach.

    Raises:
        ConfigError: Something is there, or it cannot be written (STUDY-E089).
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise _not_written(folder, "something is there already, and is never overwritten")
    try:
        with whole_folder(folder) as draft:
            owned = _fill(draft, hosts, port)
    except OSError as error:
        raise _not_written(folder, error.strerror or type(error).__name__) from error
    authority = folder / "certificates" / "ca.crt"
    private = (folder / "certificates", folder / "certificates" / "server.key", folder / "superexec.secret")
    return Coordinator(authority, fingerprint_of(read_certificates(authority)[0]), private, owned)


def _fill(folder: Path, hosts: Sequence[str], port: int) -> bool:
    """Write everything; tell whether it could be given to the users of the containers."""
    made = make_certificates(folder / "certificates", [*hosts, *(host for host in (CONTROL,) if host not in hosts)])
    secret = make_secret(folder / "superexec.secret")
    for name in FOLDERS:
        (folder / name).mkdir()
        (folder / name).chmod(0o755)  # whatever the umask: the containers read as other users; nothing in it is secret
    (folder / ".env").write_text(_environment(port), encoding="utf-8")
    (folder / ".env").chmod(0o644)
    is_root = os.geteuid() == 0
    if is_root:
        for path in (made.server_key.parent, made.server_key, secret):
            os.chown(path, SUPERLINK, GROUP)
    made.server_key.chmod(0o400)
    secret.chmod(0o440)  # read by the SuperLink and, through the group, by the executor of the ServerApp
    return is_root


def _environment(port: int) -> str:
    return f"""\
# Written by fedfm-study init, for docker compose; holds no secret. Yours to change; then: docker compose up -d
COMPOSE_FILE=coordinator.compose.yaml
COMPOSE_PROJECT_NAME=fedfm-coordinator
FEDFM_VERSION={version("fedfm")}
# the port that hospitals reach, and the one on 127.0.0.1 that shows reports
FEDFM_PORT={port}
FEDFM_PAGE_PORT=8080
"""


def _not_written(folder: Path, found: str) -> ConfigError:
    fix = "name a folder that is not there yet, inside one that this user may write"
    return ConfigError(
        "STUDY-E089", "the folder of a coordinator cannot be written", where=str(folder), found=found, fix=fix
    )

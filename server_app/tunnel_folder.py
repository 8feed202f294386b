"""The coordinator's end of the tunnel, put beside what ``fedfm-study init`` has made."""

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes

from fedfm.env_file import with_lines
from fedfm.errors import ConfigError
from fedfm.tunnel_certificates import CERTIFICATE, KEY, make_pair
from fedfm.whole_folder import whole_folder
from server_app.coordinator_folder import GROUP, SUPERLINK
from server_app.tunnel_admission import ADMITTED

FOLDER, TUNNEL = "tunnel", 10006
"""Name of the folder, and number of the user of the tunnel's container."""
OVERLAY = "mutual-tls.coordinator.compose.yaml"


@dataclass(frozen=True)
class Tunnel:
    """What was made.

    Attributes:
        certificate: What every hospital gets.
        fingerprint: Its SHA-256, as openssl writes it.
        owned: The files belong to the users of the containers already.
    """

    certificate: Path
    fingerprint: str
    owned: bool


def add_tunnel(coordinator: Path) -> Tunnel:
    """Make key and certificate of the coordinator's end, and an empty list of who is admitted.

    Raises:
        ConfigError: Something is there already, or it cannot be written (STUDY-E086).
    """
    folder, settings = coordinator / FOLDER, coordinator / ".env"
    if folder.exists():
        raise _not_made(folder, "there is a tunnel already, and a key is never overwritten")
    try:
        text = with_lines(settings.read_text(), {"COMPOSE_FILE": f"coordinator.compose.yaml:{OVERLAY}"})
        with whole_folder(folder) as draft:
            made = make_pair(draft, "coordinator")
            (draft / "admitted").mkdir()
            (draft / "admitted" / ADMITTED).touch()
            owned = _hand_over(draft)
        settings.write_text(text)
    except OSError as error:
        raise _not_made(folder, error.strerror or type(error).__name__) from error
    return Tunnel(folder / CERTIFICATE, made.fingerprint(hashes.SHA256()).hex(":").upper(), owned)


def _hand_over(folder: Path) -> bool:
    """Give the key to the tunnel, and the list to the container in which ``fedfm-study admit`` runs."""
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(folder / KEY, TUNNEL, GROUP)
        for path in (folder / "admitted", folder / "admitted" / ADMITTED):
            os.chown(path, SUPERLINK, GROUP)
    (folder / KEY).chmod(0o400)
    return is_root


def _not_made(folder: Path, found: str) -> ConfigError:
    fix = "call it as root, for the folder that fedfm-study init has made; a tunnel that is there stays"
    where = str(folder)
    return ConfigError("STUDY-E086", "the tunnel's files cannot be made", where=where, found=found, fix=fix)

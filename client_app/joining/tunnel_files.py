"""A hospital's end of the tunnel, put beside what ``fedfm-site init`` has made."""

import ipaddress
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from client_app.doctor.keys import read_node_key
from client_app.doctor.reaching import Address, read_address
from client_app.joining.folder import GROUP
from client_app.tunnel import PEER
from fedfm.certificates import read_certificates
from fedfm.config.compose import load_site
from fedfm.env_file import with_lines
from fedfm.errors import ConfigError
from fedfm.private_files import replace_private
from fedfm.tunnel_certificates import KEY, as_pem, make_pair
from fedfm.whole_folder import whole_folder

FOLDER, TUNNEL = "tunnel", 10006
"""Name of the folder, and number of the user of the tunnel's container."""
OVERLAY = "mutual-tls.site.compose.yaml"
_NETWORK = re.compile(r"^network:[ \t]*(#.*)?$", re.MULTILINE)
_IN_CONTAINER = "/etc/fedfm/tunnel"


@dataclass(frozen=True)
class Tunnelled:
    """What came of it.

    Attributes:
        folder: Of the tunnel's files.
        names_itself: The site file says now where the tunnel is; else a person has to write it.
        owned: The files belong to the users of the containers already.
        lines: What stands, or has to stand, under ``network`` in the site file.
    """

    folder: Path
    names_itself: bool
    owned: bool
    lines: tuple[str, ...]


def add_tunnel(hospital: Path, peer: Path, at: str) -> Tunnelled:
    """Make key and certificate of a hospital's end; put the certificate into ``site.pub``, the rest into its files.

    Args:
        hospital: The folder that ``fedfm-site init`` has made.
        peer: The coordinator's tunnel.crt.
        at: ``host:port`` of the coordinator's tunnel.

    Raises:
        ConfigError: Something is missing or there already (SITE-E235), or an address is none (SITE-E126).
    """
    address = read_address(at)
    site = load_site(hospital / "site.yaml")
    name = _name_of(site.network.coordinator)
    node_key = read_node_key(hospital / "node.key")
    folder = hospital / FOLDER
    if folder.exists():
        fix = f"to make another: mv {folder} {folder}.former, then this command again"
        raise _not_made(folder, "there is a tunnel already, and a key is never overwritten", fix=fix)
    pinned = _pinned(peer)
    try:
        with whole_folder(folder) as draft:
            made = make_pair(draft, site.id, node_key=node_key)
            (draft / PEER).write_bytes(as_pem(pinned))
            owned = _hand_over(draft)
        _write_over(hospital / "site.pub", _key_line(hospital / "site.pub") + as_pem([made]).decode("ascii"))
        _write_over(hospital / ".env", with_lines((hospital / ".env").read_text(), _settings(address, name)))
        lines = (f'  tunnel: "{address}"', f"  tunnel_files: {_IN_CONTAINER}")
        return Tunnelled(folder, _tell_site_file(hospital / "site.yaml", lines), owned, lines)
    except OSError as error:
        raise _not_made(folder, error.strerror or type(error).__name__) from error


def _name_of(coordinator: str) -> Address:
    """Return under which name and port the SuperNode looks for the coordinator; an address cannot stand for another."""
    address = read_address(coordinator)
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        return address
    fix = "write a name of its certificate in network.coordinator and FEDFM_COORDINATOR; it need not be known to DNS"
    raise _not_made(Path("network.coordinator"), f"the address {address.host} in the place of a name", fix=fix)


def _pinned(peer: Path) -> list[x509.Certificate]:
    try:
        return read_certificates(peer)
    except (OSError, ValueError) as error:
        fix = "name the tunnel.crt that the coordinator sent"
        raise _not_made(peer, "no certificate of the coordinator's tunnel", fix=fix) from error


def _hand_over(folder: Path) -> bool:
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(folder / KEY, TUNNEL, GROUP)
    (folder / KEY).chmod(0o440)  # read by the tunnel and, through the group, by the doctor in the SuperNode's image
    return is_root


def _key_line(public: Path) -> str:
    """Return the node key's own line, without a certificate that is there from before."""
    return public.read_text(encoding="ascii").splitlines()[0] + "\n"


def _settings(tunnel: Address, coordinator: Address) -> dict[str, str]:
    return {
        "COMPOSE_FILE": f"site.compose.yaml:{OVERLAY}",
        "FEDFM_TUNNEL": str(tunnel),
        "FEDFM_COORDINATOR": str(coordinator),
        "FEDFM_COORDINATOR_NAME": coordinator.host,
        "FEDFM_COORDINATOR_PORT": str(coordinator.port),
    }


def _tell_site_file(file: Path, lines: tuple[str, ...]) -> bool:
    """Write where the tunnel is into a site file, for the doctor; one that a person has rewritten is left alone."""
    text = file.read_text(encoding="utf-8")
    if re.search(r"^  tunnel: ", text, re.MULTILINE):
        text = re.sub(r"^  tunnel: .*$", lines[0], text, flags=re.MULTILINE)
    elif len(_NETWORK.findall(text)) == 1:
        text = _NETWORK.sub(lambda found: "\n".join((found[0], *lines)), text)
    else:
        return False
    _write_over(file, text)
    return True


def _write_over(file: Path, text: str) -> None:
    """Replace a file whole; who owns it and may read it stays."""
    was = file.stat()
    replace_private(file, text.encode())
    os.chown(file, was.st_uid, was.st_gid)
    file.chmod(stat.S_IMODE(was.st_mode))


def _not_made(where: Path, found: str, *, fix: str = "") -> ConfigError:
    fix = fix or "call it as root, in the folder that fedfm-site init has made"
    return ConfigError("SITE-E235", "the tunnel's files cannot be made", where=str(where), found=found, fix=fix)

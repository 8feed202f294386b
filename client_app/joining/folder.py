"""The folder of a hospital's containers: written whole or not at all, and never over another."""

import os
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from client_app.joining.answers import Answers, environment, policy_yaml, site_yaml
from client_app.keys import make_node_key
from fedfm.config.compose import load_site
from fedfm.errors import ConfigError
from fedfm.node_keys import fingerprint
from fedfm.private_files import make_secret
from fedfm.whole_folder import whole_folder

SUPERNODE, GROUP = 10003, 10000
"""Numbers of the user of the SuperNode's container, and of the group of all containers of fedfm."""

MODES = {
    "site.yaml": 0o640,
    "policy.yaml": 0o640,
    "ca.crt": 0o644,
    "site.pub": 0o644,
    ".env": 0o644,
    "node.key": 0o400,
    "superexec.secret": 0o440,  # read by the SuperNode and, through the group, by the executor of the ClientApp
}
"""Every file of the folder, and who may read it: node.key by the SuperNode alone."""

WEIGHTS = "weights"
"""Folder of the models."""


@dataclass(frozen=True)
class Joined:
    """What came of joining.

    Attributes:
        folder: Where the files are.
        public_key: The line of site.pub.
        fingerprint: Of the public key.
        owned: The files belong to the users of the containers already.
    """

    folder: Path
    public_key: str
    fingerprint: str
    owned: bool


def require_free(folder: Path) -> None:
    """Return if nothing stands in ``folder``.

    Raises:
        ConfigError: Something does (SITE-E232); says which site it is, where it is one.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    raise ConfigError(
        "SITE-E232",
        "there is something already, and a site is never overwritten",
        where=str(folder),
        found=_what_is_there(folder),
        fix="go on with what is there, or name another folder; a lost node key needs `fedfm-study revoke` first",
    )


def write_folder(folder: Path, said: Answers) -> Joined:
    """Write a hospital's folder: site file, policy, key, secret, authority, ``.env``, models.

    Guarantees: all of it or nothing appears; ``load_site`` accepts what was written; no file is readable by more
    than it needs from its first byte on.

    Raises:
        ConfigError: Something is there (SITE-E232), or it cannot be written (SITE-E234).
        ConfigErrors: The site file that would be written is not valid.
    """
    require_free(folder)
    try:
        with whole_folder(folder) as draft:
            _fill(draft, said)
            load_site(draft / "site.yaml")
            owned = _hand_over(draft)
    except OSError as error:
        raise _not_written(folder, error) from error
    public = (folder / "site.pub").read_text().strip()
    return Joined(folder, public, fingerprint(public), owned)


def _fill(folder: Path, said: Answers) -> None:
    make_node_key(folder / "node.key").rename(folder / "site.pub")
    make_secret(folder / "superexec.secret")
    (folder / WEIGHTS).mkdir()
    if said.weights:
        for name in said.weights.models.values():
            shutil.copytree(said.weights.folder / name, folder / WEIGHTS / name)
    for path in (folder / WEIGHTS, *(folder / WEIGHTS).rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)  # the trainer reads them as another user; nothing is secret
    texts = {
        "site.yaml": site_yaml(said),
        "policy.yaml": policy_yaml(),
        ".env": environment(said, version=version("fedfm")),
        "ca.crt": said.authority.read_text(encoding="utf-8"),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _hand_over(folder: Path) -> bool:
    """Set modes and, where this user may, owners; tell whether the containers can read what they need."""
    is_root = os.geteuid() == 0
    for name, mode in MODES.items():
        if is_root:
            os.chown(folder / name, SUPERNODE if mode in (0o400, 0o440) else -1, GROUP)
        # without the group of the containers, the trainer could not read 0640
        (folder / name).chmod(mode if is_root or mode != 0o640 else 0o644)
    return is_root


def _what_is_there(folder: Path) -> str:
    if not folder.is_dir():
        return "a file"
    present = [name for name in MODES if (folder / name).is_file()]
    if "site.pub" not in present:
        return ", ".join(present) or "other files"
    try:
        key = fingerprint((folder / "site.pub").read_text())
    except (OSError, ValueError):
        key = "unreadable"
    return f"{', '.join(present)}; node key {key}"


def _not_written(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(
        "SITE-E234",
        "the folder cannot be written",
        where=str(folder),
        found=error.strerror or type(error).__name__,
        fix="name a folder that is not there yet, inside one that this user may write",
    )

"""What docker/compose.yaml prepares before its containers start:  ``python -m scripts.demo_containers STEP``.

Each step runs once, as the user whose files it makes; what is there already stays as it is.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from flwr.proto.control_pb2 import ListNodesRequest
from omegaconf import OmegaConf

from client_app.keys import make_node_key
from fedfm.private_files import make_secret
from server_app import admission
from server_app.certificates import make_certificates
from server_app.demo_data import REFERENCE_FILE, make_demo_data

DEMO = Path(os.environ.get("FEDFM_DEMO_FOLDER", "/demo"))
SITES = ("hospital-a", "hospital-b", "hospital-c", "hospital-d")
WEIGHTS = {"53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db": "/weights/all-MiniLM-L6-v2"}
SECRET, NODE_KEY, SITE_FILE = "superexec.secret", "node.key", "site.yaml"


def coordinator() -> None:
    """Make the coordinator's certificates and the secret by which the SuperLink knows its executor."""
    if not (DEMO / "certificates" / "ca.crt").exists():
        made = make_certificates(DEMO / "certificates", ["superlink", "control"])
        shutil.copy(made.authority, DEMO / "authority")
    _shared_secret(DEMO / "coordinator-secret")


def keys() -> None:
    """Make each hospital's node key and its SuperNode's secret; the public halves go where the coordinator reads."""
    for site in SITES:
        key = DEMO / site / "node-key" / NODE_KEY
        if not key.exists():
            shutil.copy(make_node_key(key), DEMO / "public-keys" / f"{site}.pub")
        _shared_secret(DEMO / site / "secret")


def data() -> None:
    """Write each hospital's patients and site file, and the public notes."""
    patients = int(os.environ.get("FEDFM_PATIENTS", "") or 600)
    with tempfile.TemporaryDirectory() as folder:
        for made in make_demo_data(Path(folder), sites=len(SITES), patients=patients):
            site_file = DEMO / made.parent.name / "config" / SITE_FILE
            if not site_file.exists():
                shutil.copy(made.with_name("cohort.csv"), DEMO / made.parent.name / "data")
                OmegaConf.save(_in_containers(OmegaConf.load(made)), site_file)
        shutil.copy(Path(folder) / REFERENCE_FILE, DEMO / "public")


def admit() -> None:
    """Make the hospitals' public keys known to the SuperLink, as ``fedfm-study admit`` does."""
    with closing(admission.client("control:8000", DEMO / "authority" / "ca.crt")) as control:
        known = {node.name for node in control.ListNodes(ListNodesRequest()).nodes_info}
        for site in SITES:
            if site not in known:
                admission.register(control, site, DEMO / "public-keys" / f"{site}.pub")


STEPS: dict[str, Callable[[], None]] = {"coordinator": coordinator, "keys": keys, "data": data, "admit": admit}


def _shared_secret(folder: Path) -> None:
    """Make a secret that the group may read: two containers, two users."""
    if not (folder / SECRET).exists():
        make_secret(folder / SECRET).chmod(0o440)


def _in_containers(site: Any) -> Any:  # noqa: ANN401 - what OmegaConf loads
    """Return a site file with the paths that a hospital's containers have."""
    site.data.path, site.state, site.weights = "/data/cohort.csv", "/var/lib/fedfm", WEIGHTS
    return site


if __name__ == "__main__":
    os.umask(0o022)
    STEPS[sys.argv[1]]()

"""What a federation on one machine consists of: its sites, keys, certificates, ports and directories."""

import hashlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from client_app.keys import make_node_key
from fedfm.config.policy import POLICY_FILE
from fedfm.errors import DataError, EngineError
from fedfm.private_files import make_secret
from scripts.engine import processes
from server_app import runs
from server_app.certificates import Certificates, make_certificates

HOST = "127.0.0.1"
MOST_EPSILON = 100.0
LONGEST_SOCKET_FOLDER = 90
PROJECT = Path(__file__).resolve().parents[2]
PACKED = ("fedfm", "server_app", "client_app", "conf")
"""What ``flwr run`` packs; the folders of ``fab-include`` in pyproject.toml."""


@dataclass(frozen=True)
class Site:
    """One hospital of the federation.

    Attributes:
        id: Its name, registered with its key.
        socket: The unix socket of its trainer.
        port: Where its SuperNode serves its executor.
        fleet: ``host:port`` at which its SuperNode looks for the SuperLink.
        state: The federation's directory.
    """

    id: str
    socket: Path
    port: int
    fleet: str
    state: Path

    @property
    def file(self) -> Path:
        """Its site.yaml, as its trainer reads it."""
        return self.state / "hospitals" / self.id / "site.yaml"

    @property
    def key(self) -> Path:
        """Its private node key."""
        return self.state / "keys" / self.id

    @property
    def public_key(self) -> Path:
        """The key that the coordinator registers."""
        return self.state / "keys" / f"{self.id}.pub"


@dataclass(frozen=True)
class Federation:
    """Where everything of a running federation is.

    Attributes:
        state: Directory with keys, logs, database and the record of processes.
        sites: The hospitals.
        certificates: The coordinator's.
        control: ``host:port`` of the Control API.
        fleet: ``host:port`` of the gRPC Fleet API.
        environment: For every command that concerns this federation.
        outlives_us: The processes go on when this one ends.
    """

    state: Path
    sites: tuple[Site, ...]
    certificates: Certificates
    control: str
    fleet: str
    environment: Mapping[str, str] = field(repr=False)
    outlives_us: bool = False

    @property
    def record(self) -> Path:
        """The record of this federation's processes."""
        return record_of(self.state)

    @property
    def logs(self) -> Path:
        """The directory of their logs."""
        return self.state / "logs"

    @property
    def flower_home(self) -> Path:
        """The directory with the Flower configuration that knows this federation."""
        return self.state / "flower"

    def start(self, name: str, *command: str, threads: int = 0) -> processes.Process:
        """Start a process of this federation; it is stopped with the others."""
        limit = {"OMP_NUM_THREADS": str(threads)} if threads else {}
        return processes.start(
            name,
            command,
            record=self.record,
            logs=self.logs,
            environment={**self.environment, **limit},
            outlives_us=self.outlives_us,
        )


def record_of(state: Path) -> Path:
    """Return the file that records the processes of the federation in ``state``."""
    return state / "processes.json"


def prepare(site_files: Sequence[Path], state: Path, *, results: Path, port: int = 0, keep: bool = False) -> Federation:
    """Write keys, certificates, secrets and site files of a federation; start nothing yet.

    Args:
        site_files: Each hospital's site.yaml. They are copied: the ledger of this federation
            begins empty, and what it spends does not count at the hospital.
        state: What a former federation left there is removed.
        results: Where runs are written.
        port: Of the Control API; 0 for any free one.
        keep: For many runs: the processes outlive this one, and sites accept a total epsilon of 100.

    Raises:
        EngineError: The port is taken.
        DataError: A site file is missing.
    """
    _clear(state)
    (state / "logs").mkdir(parents=True)
    control, fleet, *node_ports = _ports(2 + len(site_files), first=port)
    sockets = _fresh_socket_folder(state)
    sites = tuple(
        Site(
            id=_copy_site(file, state, max_epsilon=MOST_EPSILON if keep else None),
            socket=sockets / f"{number}.sock",
            port=node_port,
            fleet=f"{HOST}:{fleet}",
            state=state,
        )
        for number, (file, node_port) in enumerate(zip(site_files, node_ports, strict=True))
    )
    for site in sites:
        make_node_key(site.key)
    for name in ("superlink", *(site.id for site in sites)):
        make_secret(state / "secrets" / name)
    federation = Federation(
        state=state,
        sites=sites,
        certificates=make_certificates(state / "certificates"),
        control=f"{HOST}:{control}",
        fleet=f"{HOST}:{fleet}",
        environment=_environment(state, results),
        outlives_us=keep,
    )
    runs.write_connection(federation.flower_home, federation.control, federation.certificates.authority)
    return federation


def stage_app(state: Path, project: Path = PROJECT) -> Path:
    """Copy what ``flwr run`` packs to a folder whose name Flower accepts, and return it.

    A clone may be called anything, and may hold a virtual environment that Flower would walk through.
    """
    app = state / "app" / "fedfm"
    shutil.rmtree(app, ignore_errors=True)
    app.mkdir(parents=True)
    shutil.copy(project / "pyproject.toml", app)
    for name in PACKED:
        shutil.copytree(project / name, app / name, ignore=shutil.ignore_patterns("__pycache__"))
    return app


def _clear(state: Path) -> None:
    """Remove a former federation, its ledgers too; only what its hospitals cached stays."""
    for part in ("certificates", "keys", "secrets", "logs", "flower", "memory"):
        shutil.rmtree(state / part, ignore_errors=True)
    former = [*state.glob("superlink.db*"), *state.glob("hospitals/*/state/*")]
    for path in (path for path in former if path.name != "cache"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _copy_site(file: Path, state: Path, *, max_epsilon: float | None) -> str:
    """Copy a site file and the policy beside it, with a ledger of its own, and return the site's id."""
    if not file.is_file():
        raise DataError("ENGINE-E102", "no such site file", where=str(file), fix="name a folder that has one")
    content: Any = OmegaConf.load(file)
    name = str(content["id"])
    folder = state / "hospitals" / name
    folder.mkdir(parents=True, exist_ok=True)
    content["data"]["path"] = str((file.parent / str(content["data"]["path"])).resolve())
    content["state"] = str(folder / "state")
    beside, target = file.with_name(POLICY_FILE), folder / POLICY_FILE
    target.unlink(missing_ok=True)  # of a former federation
    policy: Any = OmegaConf.load(beside) if beside.exists() else None
    if max_epsilon is not None and policy is not None:
        policy["max_epsilon"] = max_epsilon
    elif max_epsilon is not None:
        OmegaConf.update(content, "policy.max_epsilon", max_epsilon, force_add=True)
    OmegaConf.save(content, folder / "site.yaml")
    if policy is not None:
        OmegaConf.save(policy, target)
    return name


def _fresh_socket_folder(state: Path) -> Path:
    """Return an empty folder for unix sockets, whose paths may not be long: Linux allows 107 bytes."""
    folder = state / "sockets"
    if len(os.fsencode(folder)) > LONGEST_SOCKET_FOLDER:
        folder = Path(tempfile.gettempdir()) / f"fedfm-{hashlib.sha256(os.fsencode(state)).hexdigest()[:12]}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder


def _ports(count: int, *, first: int = 0) -> list[int]:
    """Return free ports of loopback; the first is ``first`` if that is not 0."""
    with_sockets = [socket.socket() for _ in range(count)]
    try:
        for number, each in enumerate(with_sockets):
            try:
                each.bind((HOST, first if number == 0 else 0))
            except OSError as error:
                raise EngineError(
                    "ENGINE-E110",
                    "a port is taken by another program",
                    where=f"{HOST}:{first}",
                    fix="see who has it (ss -ltnp), name another with --port, or leave --port out",
                ) from error
        return [int(each.getsockname()[1]) for each in with_sockets]
    finally:
        for each in with_sockets:
            each.close()


def _environment(state: Path, results: Path) -> dict[str, str]:
    direct = ",".join(filter(None, [os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")), HOST, "localhost"]))
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # Flower finds its programs by name
        "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), str(PROJECT)])),
        "NO_PROXY": direct,
        "no_proxy": direct,
        "PYTHONUNBUFFERED": "1",
        "FLWR_HOME": str(state / "flower"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        "FEDFM_RESULTS": str(results),
        "FEDFM_MEMORY": str(state / "memory"),  # goes with the hospitals' ledgers
    }

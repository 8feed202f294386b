"""A hospital with an authority and a node key, and the Fleet API that it should reach."""

from dataclasses import dataclass, replace
from pathlib import Path

from client_app.doctor import coordinator, keys, network
from client_app.keys import make_node_key
from fedfm.config.site import Network
from fedfm.findings import Finding
from tests import superlink, tls

STUDY = tls.authority()
GOOD = tls.server(STUDY)


@dataclass(frozen=True)
class Hospital:
    """A hospital's files, and the coordinator's Fleet API that it should reach."""

    folder: Path
    network: Network
    served: superlink.Served

    def at(self, address: str) -> Network:
        return replace(self.network, coordinator=address)


def admitted(folder: Path, served: superlink.Served) -> Hospital:
    """Return a hospital that has done everything right, and is admitted."""
    (folder / "ca.crt").write_bytes(STUDY.pem)
    served.register(make_node_key(folder / "node.key"))
    return Hospital(folder, Network(served.address, "ca.crt", "node.key"), served)


def look(hospital: Hospital, named: Network | None = None, environment: dict[str, str] | None = None) -> list[Finding]:
    """Return everything that the three groups find."""
    named = named or hospital.network
    return [
        *keys.checks(named, hospital.folder),
        *network.checks(named, hospital.folder, environment or {}),
        *coordinator.checks(named, hospital.folder),
    ]


def codes(findings: list[Finding], *, of: str = "fail") -> list[str]:
    return [finding.code for finding in findings if finding.status == of]

"""What tests ask of the Docker engine: a federation of docker/compose.yaml, and commands inside its containers."""

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker" / "compose.yaml"
SITES = ("a", "b", "c", "d")
LIGHT = ("superlink", "supernode-a", "clientapp-a")
HEAVY = ("serverapp", "trainer-a")
STEADY = (
    "superlink",
    "serverapp",
    "page",
    *(f"{kind}-{x}" for x in SITES for kind in ("supernode", "clientapp", "trainer")),
)
ONCE = ("certificates", "node-keys", "demo-data", "admission", "study")
SMALL = "experiment=demo adapter=head explainability=none rounds=1 privacy.epsilon=1"


def command(*words: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Do a command; what it printed is in the failure."""
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False, **options)
    assert not check or done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


@dataclass(frozen=True)
class Federation:
    """One Compose project of ``docker/compose.yaml``.

    Attributes:
        project: Its name.
        page: Port of its report on loopback.
    """

    project: str
    page: int
    version: str = field(default="test")

    @property
    def environment(self) -> dict[str, str]:
        """For every command of this project: the small study, images of our own."""
        return {
            **os.environ,
            "FEDFM_VERSION": self.version,
            "FEDFM_BUILD_NETWORK": os.environ.get("FEDFM_BUILD_NETWORK", "host"),
            "FEDFM_PAGE_PORT": str(self.page),
            "FEDFM_PATIENTS": "60",
            "FEDFM_OVERRIDES": SMALL,
        }

    def compose(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Do ``docker compose`` for this project."""
        start = ("docker", "compose", "-p", self.project, "-f", str(COMPOSE))
        return command(*start, *words, check=check, env=self.environment)

    def container(self, service: str) -> str:
        """Return the name of a service's container."""
        return f"{self.project}-{service}-1"

    def volume(self, name: str) -> str:
        """Return a volume's full name."""
        return f"{self.project}_{name}"

    def inside(self, service: str, code: str, *, check: bool = True) -> str:
        """Return what Python code prints inside a running container."""
        return command("docker", "exec", self.container(service), "python", "-c", code, check=check).stdout

    def facts(self, service: str) -> dict[str, Any]:
        """Return what ``docker inspect`` says about a service's container."""
        found: list[dict[str, Any]] = json.loads(command("docker", "inspect", self.container(service)).stdout)
        return found[0]

    def addresses(self, service: str) -> list[str]:
        """Return the addresses of a container, one of each of its networks."""
        networks = self.facts(service)["NetworkSettings"]["Networks"].values()
        return [network["IPAddress"] for network in networks if network["IPAddress"]]

    def ask(self, *overrides: str) -> subprocess.CompletedProcess[str]:
        """Run one more study and return what the command said; its exit code is the verdict."""
        model = ("model.source=directory", "model.location=/weights/all-MiniLM-L6-v2")
        where = ("--app=/opt/app/fedfm", "--superlink=control:8000", "--authority=/authority/ca.crt")
        words = ("run", "--rm", "-T", "--no-deps", "study", "fedfm-study", "run", *where, *model, *overrides)
        return self.compose(*words, check=False)

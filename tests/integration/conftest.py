"""A small hospital with planted canaries, for tests that cross processes."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from client_app.trainer.service import serve
from client_app.trainer.warm import Trainer
from fedfm.arrays import layout
from fedfm.config.compose import compose_study, load_site, study_to_json
from fedfm.wire import Request

CANARY = "ZZPATIENT"
TINY = ["model=tiny", "adapter=head", "rounds=3", "min_sites=2", "explainability.documents=4"]


def study_json(*overrides: str) -> str:
    """A resolved study on the tiny model."""
    return study_to_json(compose_study([*TINY, *overrides]).value)


def write_hospital(folder: Path, *, patients: int = 80, policy: str = "", name: str = "hospital-a") -> Path:
    """Write a cohort with a canary in every cell, and its site file."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["stable", "fever", "cough", "lactate", "walking", "confused"]
    lines = [f"{CANARY}-mrn,note,outcome,sex"]
    for patient in range(patients):
        for note in range(1 + patient % 2):
            word = words[(patient + note) % len(words)]
            outcome = "deteriorated" if word in ("fever", "lactate", "confused") else "recovered"
            sex = "female" if patient % 2 else "male"
            lines.append(f"{CANARY}-{patient:06d},{word} patient {CANARY}-{patient:06d} on the ward,{outcome},{sex}")
    (folder / "cohort.csv").write_text("\n".join(lines) + "\n")
    site_file = folder / "site.yaml"
    site_file.write_text(
        f"""id: {name}
declared_patients: 60
state: state
micro_batch: 16
data:
  path: cohort.csv
  loader: text
  patient: {CANARY}-mrn
  label: outcome
  label_map: {{recovered: recovered, deteriorated: deteriorated}}
  text: note
  groups:
    sex: {{column: sex, values: {{female: female, male: male}}}}
  split: {{train: 0.6, audit: 0.2, test: 0.2}}
policy:
  approval: none
  allow_random_weights: true
  {policy}
"""
    )
    return site_file


@dataclass
class TrainerProcess:
    """A trainer of its own process."""

    socket: Path
    site_file: Path
    process: subprocess.Popen[str]

    def kill(self) -> None:
        """Kill it as a crash would."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start_trainer(tmp_path: Path) -> Iterator[Callable[..., TrainerProcess]]:
    """Start trainers that end with the test; one in the place of another where its socket is given."""
    started: list[TrainerProcess] = []

    def start(site_file: Path, socket: Path | None = None) -> TrainerProcess:
        socket = socket or tmp_path / f"t{len(started)}.sock"
        with (tmp_path / f"trainer{len(started)}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "client_app.trainer", str(site_file), "--socket", str(socket)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", (tmp_path / f"trainer{len(started)}.log").read_text()
        started.append(TrainerProcess(socket, site_file, process))
        return started[-1]

    yield start
    for trainer in started:
        trainer.process.terminate()
        assert trainer.process.wait(timeout=20) in (0, -9)
        trainer.process.stdout.close()  # type: ignore[union-attr]


@pytest.fixture
def serve_here(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Serve trainers from this process, over the same gRPC and the same kind of socket; return the socket."""
    servers: list[grpc.Server] = []

    def start(site_file: Path) -> Path:
        socket = tmp_path / f"h{len(servers)}.sock"
        servers.append(serve(Trainer(load_site(site_file)), socket))
        return socket

    yield start
    for server in servers:
        server.stop(grace=None).wait()


def request(round_: int, parameters: dict, *overrides: str, run: str = "run-1") -> Request:  # type: ignore[type-arg]
    """A request of the tiny study."""
    return Request(run, study_json(*overrides), round_, layout(parameters) if parameters else "", parameters)

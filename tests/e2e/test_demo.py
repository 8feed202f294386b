"""``scripts/demo`` as a person uses it: it ends well or says why, and never leaves a process behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from scripts.engine import processes
from scripts.engine.federation import PROJECT, record_of
from tests.e2e.conftest import write_hospitals

pytestmark = pytest.mark.engine

TINY = ("--", "model=tiny", "adapter=head", "explainability=none")


@dataclass(frozen=True)
class Demo:
    """The demo command with a state directory of its own."""

    state: Path

    def environment(self) -> dict[str, str]:
        return {**os.environ, "FEDFM_DEMO": str(self.state), "FEDFM_RESULTS": str(self.state / "results")}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "scripts.engine", *arguments],
            cwd=PROJECT,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        with self.start(*arguments) as demo:
            output, _ = demo.communicate(timeout=240)
        return demo.returncode, output

    def processes(self) -> list[str]:
        """Name every living process that has this state directory on its command line or as its folder."""
        return [found for process in psutil.process_iter() if (found := mentions(process, self.state))]

    def until_all_started(self) -> None:
        wanted = 2 + 1 + 2 * 2  # SuperLink and its executor, the trainers, and two for each site
        until(lambda: len(processes.read(record_of(self.state))) == wanted)


def mentions(process: psutil.Process, state: Path) -> str:
    try:
        command = " ".join(process.cmdline())
        return command if str(state) in command or process.cwd() == str(state) else ""
    except psutil.Error:
        return ""


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """A demo over two tiny synthetic hospitals."""
    write_hospitals(tmp_path / "data" / "demo-2")
    made = Demo(tmp_path)
    yield made
    processes.stop(record_of(tmp_path))


def test_a_demo_ends_in_a_verdict_and_leaves_nothing(demo: Demo) -> None:
    code, output = demo.run("--sites", "2", "--rounds", "1", *TINY)
    assert code == 0, output
    assert "Completed" in output
    assert "Privacy: ON" in output
    report = next(word for word in output.split() if word.endswith("report.html"))
    assert Path(report).is_file()
    assert demo.processes() == []


def test_a_kept_federation_takes_more_runs_until_it_is_stopped(demo: Demo) -> None:
    code, output = demo.run("--keep", "--sites", "2", "--rounds", "1", *TINY)
    assert code == 0, output
    assert demo.processes()
    command = [str(Path(sys.executable).with_name("flwr")), "run", ".", "demo", "--stream", "--run-config"]
    overrides = 'overrides="experiment=demo model=tiny adapter=head explainability=none rounds=1"'
    again = subprocess.run(
        [*command, overrides],
        cwd=PROJECT,
        env={**demo.environment(), "FLWR_HOME": str(demo.state / "flower")},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert "Completed" in again.stdout + again.stderr
    code, output = demo.run("--stop")
    assert code == 0
    assert "Stopped" in output
    assert demo.processes() == []


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_stops_everything(demo: Demo, sign: signal.Signals) -> None:
    with demo.start("--sites", "2", *TINY) as running:
        demo.until_all_started()
        running.send_signal(sign)
        output, _ = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "nothing is left running" in output
    assert demo.processes() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_a_demo_killed_outright_leaves_nothing_after_stop(demo: Demo) -> None:
    with demo.start("--sites", "2", *TINY) as running:
        demo.until_all_started()
        running.kill()
    code, _ = demo.run("--stop")
    assert code == 0
    until(lambda: demo.processes() == [])
    assert not record_of(demo.state).exists()


def test_a_port_in_use_is_named(demo: Demo) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, output = demo.run("--sites", "2", "--port", str(port), *TINY)
    assert code == 1
    assert "ENGINE-E110" in output
    assert str(port) in output
    assert demo.processes() == []


def test_unknown_data_is_refused_with_the_names_there_are(demo: Demo) -> None:
    code, output = demo.run("--data", "heart_diseas")
    assert code == 2
    assert "heart_disease" in output


def test_absent_public_data_leaves_no_half_folder(demo: Demo) -> None:
    code, output = demo.run("--data", "heart_disease", "--from", str(demo.state / "nowhere"))
    assert code == 1
    assert "ENGINE-E105" in output
    assert "heart_disease" in output
    assert list((demo.state / "data").glob("heart*")) == []
    assert demo.processes() == []


def test_a_hospital_that_is_down_at_the_start_is_named(demo: Demo) -> None:
    site_file = demo.state / "data" / "demo-2" / "hospital-b" / "site.yaml"
    site_file.write_text(site_file.read_text().replace("declared_patients", "declared_patient"))
    code, output = demo.run("--sites", "2", "--rounds", "1", *TINY)
    assert code == 1
    assert "declared_patient" in output
    assert demo.processes() == []


def until(done: Callable[[], object], *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.1)

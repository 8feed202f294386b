"""What is asked of a SuperLink: start a run, follow it.

Runs are started by the ``flwr`` command, exactly as a researcher does; the rest goes over the
same Control API in this process, because a ``flwr`` command costs a second of start-up each.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from flwr.proto.control_pb2 import ListRunsRequest, StreamLogsRequest
from flwr.supercore.control import ControlHttpClient

from fedfm.errors import EngineError

CONNECTION = "demo"
"""Name of the connection in the federation's Flower configuration."""

_SILENCE = 60.0  # seconds


@dataclass(frozen=True)
class Status:
    """How far a run is.

    Attributes:
        finished: It will not change any more.
        completed: It finished as it should.
        details: What Flower knows about a failure.
    """

    finished: bool
    completed: bool
    details: str


def write_connection(flower_home: Path, address: str, authority: Path) -> None:
    """Write the Flower configuration by which ``flwr run . demo`` finds this federation."""
    flower_home.mkdir(parents=True, exist_ok=True)
    (flower_home / "config.toml").write_text(
        f"[superlink]\ndefault = {json.dumps(CONNECTION)}\n\n[superlink.{CONNECTION}]\n"
        f"address = {json.dumps(address)}\nroot-certificates = {json.dumps(str(authority))}\n"
    )


def start_run(
    app: Path, *, asked: Mapping[str, str], environment: Mapping[str, str], connection: str = CONNECTION
) -> int:
    """Do ``flwr run APP CONNECTION --run-config FILE`` and return the run's number.

    Args:
        app: Folder of the app.
        asked: The run's configuration, as ``[tool.flwr.app.config]`` of pyproject.toml names it. It goes in a file,
            for on its command line ``flwr`` takes no text with both kinds of quotes.
        environment: Of the command; ``FLWR_HOME`` holds the connection.
        connection: Its name.

    Raises:
        EngineError: With what ``flwr`` says.
    """
    command = [_flwr(), "run", str(app), connection, "--format", "json"]
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in asked.items() if value]
        if lines:
            file = Path(folder) / "run.toml"
            file.write_text("".join(lines), encoding="utf-8")
            command += ["--run-config", str(file)]
        done = _do(command, environment)
    try:
        answer = json.loads(done.stdout)
        return int(answer["run-id"])
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(
            "ENGINE-E130",
            "flwr run was refused",
            where=f"connection {connection}",
            found=(done.stdout + done.stderr).strip(),
            fix="read its words; the connections are those of config.toml in $FLWR_HOME",
        ) from error


def status_of(control: ControlHttpClient, run: int) -> Status:
    """Return how far a run is."""
    found = control.ListRuns(ListRunsRequest(run_id=run)).run_dict[run].status
    return Status(found.status == "finished", found.sub_status == "completed", found.details)


def log_of(run: int, *, environment: Mapping[str, str], connection: str = CONNECTION) -> str:
    """Return what the ServerApp of a run has printed (``flwr log RUN CONNECTION --show``)."""
    done = _do([_flwr(), "log", str(run), connection, "--show"], environment)
    return done.stdout + done.stderr


def has_completed(control: ControlHttpClient) -> bool:
    """Tell whether any run of this SuperLink has ended as it should."""
    found = control.ListRuns(ListRunsRequest()).run_dict.values()
    return any(run.status.status == "finished" and run.status.sub_status == "completed" for run in found)


def follow(control: ControlHttpClient, run: int, tell: Callable[[str], object]) -> Status:
    """Pass on what the ServerApp of a run prints until it has finished; return how it ended.

    A SuperLink that is started again meanwhile is waited for.

    Raises:
        EngineError: The SuperLink has not answered for a minute.
    """
    seen, answered = 0.0, time.monotonic()
    while True:
        try:
            status = status_of(control, run)  # before its log: what it says until then is passed on
            for part in control.StreamLogs(StreamLogsRequest(run_id=run, after_timestamp=seen)):
                tell(part.log_output)
                seen = max(seen, part.latest_timestamp)
            answered = time.monotonic()
        except httpx.TransportError as error:
            if time.monotonic() - answered > _SILENCE:
                raise EngineError(
                    "ENGINE-E141",
                    f"the SuperLink has not answered for {_SILENCE:.0f} s",
                    where=f"run {run}",
                    found=type(error).__name__,
                    fix="start it again: a run goes on where its ServerApp still lives",
                ) from error
        else:
            if status.finished:
                return status
        time.sleep(0.5)


def wait_for(control: ControlHttpClient, run: int, *, seconds: float) -> Status:
    """Wait until a run has finished.

    Raises:
        EngineError: It takes longer than ``seconds``.
    """
    end = time.monotonic() + seconds
    while not (status := status_of(control, run)).finished:
        if time.monotonic() > end:
            raise EngineError("ENGINE-E131", f"run {run} did not finish within {seconds:.0f} s", fix="read its log")
        time.sleep(0.2)
    return status


def _flwr() -> str:
    return str(Path(sys.executable).with_name("flwr"))


def _do(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - Flower's own program, beside this interpreter
        command, env=dict(environment), capture_output=True, text=True, check=False
    )

"""Processes that are always stopped: each in a session of its own, each on record.

A record is a process id with its start time, so that an id that the system has given to
somebody else is never signalled. ``stop`` needs nothing but the record file: it serves the end
of a run, Ctrl-C, and the next start after a run that was killed.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from scripts.engine.failures import explain

PATIENCE = 4.0
"""Seconds between asking a process to end and ending it."""

_STARTED: list[subprocess.Popen[bytes]] = []
"""Held only because Python warns of a Popen that is dropped while its process runs."""


@dataclass(frozen=True)
class Process:
    """A process that was started, and where it writes.

    Attributes:
        name: For people, for example ``"supernode hospital-a"``.
        pid: Its process id; also the id of its session.
        started: Its start in seconds since the epoch, as the system tells it.
        log: File with its output.
    """

    name: str
    pid: int
    started: float
    log: str


def start(
    name: str,
    command: Sequence[str],
    *,
    record: Path,
    logs: Path,
    environment: Mapping[str, str],
    outlives_us: bool = False,
) -> Process:
    """Start ``command`` in a session of its own and put it on record before anything else happens.

    Unless it ``outlives_us``, Linux ends it when this process dies, however that happens.
    Call it from the main thread: the parent that Linux watches is the thread.
    """
    log = logs / f"{name.replace(' ', '-')}.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=record.parent,
            start_new_session=True,
            preexec_fn=None if outlives_us else end_with_parent(),  # noqa: PLW1509 - we start from one thread
        )
    _STARTED.append(popen)
    process = Process(name, popen.pid, psutil.Process(popen.pid).create_time(), str(log))
    _write(record, [*read(record), process])
    return process


def end_with_parent() -> Callable[[], None] | None:
    """Return what a child calls to be ended with its parent; None where the system has no such thing."""
    if sys.platform != "linux":
        return None
    control = ctypes.CDLL(None).prctl
    set_parent_death_signal = 1
    return lambda: control(set_parent_death_signal, signal.SIGTERM)


def read(record: Path) -> list[Process]:
    """Return what is on record, running or not."""
    return [Process(**entry) for entry in json.loads(record.read_text())] if record.exists() else []


def is_running(process: Process) -> bool:
    """Tell whether this very process runs, not another that got its id."""
    try:
        now = psutil.Process(process.pid)
        return bool(_is_same(now, process) and now.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def require_running(processes: Iterable[Process]) -> None:
    """Raise the translated cause if one of the processes has ended.

    Raises:
        EngineError: Names the process, its log and what to do.
    """
    for process in processes:
        if not is_running(process):
            raise explain(process.name, Path(process.log))


def wait_until(
    done: Callable[[], bool], processes: Sequence[Process], *, seconds: float, what: str, interval: float = 0.05
) -> None:
    """Wait for ``done``, but no longer than a process of ``processes`` lives or ``seconds`` pass.

    Raises:
        EngineError: A process ended, or time ran out.
    """
    end = time.monotonic() + seconds
    while not done():
        require_running(processes)
        if time.monotonic() > end:
            raise explain(what, Path(processes[-1].log), seconds=seconds)
        time.sleep(interval)


def stop(record: Path) -> int:
    """End every process on record with all it started, and forget the record.

    Returns:
        How many were still running.
    """
    with _uninterrupted():
        return _stop(record)


def _stop(record: Path) -> int:
    count = sum(is_running(process) for process in read(record))
    members = [member for process in read(record) for member in _session(process)]
    for sign, patience in ((signal.SIGTERM, PATIENCE), (signal.SIGKILL, PATIENCE)):
        alive = [member for member in members if member.is_running()]
        for member in alive:
            try:
                member.send_signal(sign)
            except psutil.NoSuchProcess:
                continue  # it ended by itself meanwhile, which is what we want
        _, members = psutil.wait_procs(alive, timeout=patience)
    _STARTED[:] = [popen for popen in _STARTED if popen.poll() is None]
    record.unlink(missing_ok=True)
    return count


def end(record: Path, process: Process) -> None:
    """End one process with all it started, and take it off the record."""
    members = _session(process)
    for member in members:
        member.terminate()
    for member in psutil.wait_procs(members, timeout=PATIENCE)[1]:
        member.kill()
    _write(record, [other for other in read(record) if other != process])


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let a second Ctrl-C wait until everything has been stopped."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _session(process: Process) -> list[psutil.Process]:
    """Return all living processes of the session that ``process`` leads or led."""
    try:
        if not _is_same(psutil.Process(process.pid), process):
            return []  # the id went to somebody else, so nothing of the old session is left
    except psutil.NoSuchProcess:
        pass  # the leader is gone; what it started may still be there
    return [member for pid in psutil.pids() if (member := _member(pid, process)) is not None]


def _member(pid: int, process: Process) -> psutil.Process | None:
    try:
        return psutil.Process(pid) if os.getsid(pid) == process.pid else None
    except (psutil.NoSuchProcess, ProcessLookupError):
        return None


def _is_same(now: psutil.Process, process: Process) -> bool:
    return bool(abs(now.create_time() - process.started) < 2.0)  # the clock may have been set meanwhile


def _write(record: Path, processes: Sequence[Process]) -> None:
    draft = record.with_suffix(".new")
    draft.write_text(json.dumps([asdict(process) for process in processes], indent=1))
    draft.replace(record)

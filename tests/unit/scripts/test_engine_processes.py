"""What was started is always ended, and nobody else is."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from fedfm.errors import EngineError
from scripts.engine import processes
from scripts.engine.failures import explain

SLEEPS_WITH_A_CHILD = (
    "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
    "print(p.pid, flush=True); time.sleep(60)"
)
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('x', flush=True); time.sleep(60)"


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "processes.json"
    processes.stop(tmp_path / "processes.json")


def start(record: Path, code: str, *, outlives_us: bool = True) -> processes.Process:
    command = [sys.executable, "-c", code]
    return processes.start(
        "sleeper", command, record=record, logs=record.parent, environment=os.environ, outlives_us=outlives_us
    )


def printed(process: processes.Process) -> str:
    until(lambda: Path(process.log).read_text())
    return Path(process.log).read_text()


def until(done: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)


def test_stop_ends_a_process_and_its_children(record: Path) -> None:
    process = start(record, SLEEPS_WITH_A_CHILD)
    child = int(printed(process))
    assert processes.stop(record) == 1
    assert not psutil.pid_exists(process.pid)
    assert not psutil.pid_exists(child)
    assert not record.exists()


def test_stop_ends_children_whose_parent_has_gone(record: Path) -> None:
    process = start(record, SLEEPS_WITH_A_CHILD)
    child = int(printed(process))
    psutil.Process(process.pid).kill()
    until(lambda: not processes.is_running(process))
    processes.stop(record)
    assert not psutil.pid_exists(child)


def test_stop_ends_a_process_that_does_not_listen(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.5)
    process = start(record, DEAF)
    printed(process)
    processes.stop(record)
    assert not psutil.pid_exists(process.pid)


def test_a_process_that_got_the_id_of_ours_is_left_alone(record: Path) -> None:
    ours = start(record, "import time; time.sleep(60)")
    former = replace(ours, started=ours.started - 3600)
    record.write_text(json.dumps([asdict(former)]))
    assert not processes.is_running(former)
    assert processes.stop(record) == 0
    assert processes.is_running(ours)
    psutil.Process(ours.pid).kill()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_a_process_ends_when_its_parent_is_killed_outright(record: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from scripts.engine import processes;"
        f"r = Path({str(record)!r}); "
        "p = processes.start('x', [sys.executable, '-c', 'import time; time.sleep(60)'], record=r, logs=r.parent, "
        "environment=os.environ); print(p.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert psutil.pid_exists(child)
        parent.kill()
    until(lambda: not psutil.pid_exists(child))


def test_waiting_ends_with_the_cause_when_a_process_ends(record: Path) -> None:
    process = start(record, "print('[code: 2004] Failed to activate SuperNode.')")
    with pytest.raises(EngineError, match="ENGINE-E125"):
        processes.wait_until(lambda: False, [process], seconds=30, what="a site")


def test_waiting_ends_when_time_is_over(record: Path) -> None:
    process = start(record, "import time; time.sleep(60)")
    with pytest.raises(EngineError, match="not ready after 0 s"):
        processes.wait_until(lambda: False, [process], seconds=0.2, what="a site")


@pytest.mark.parametrize(
    ("line", "code", "found"),
    [
        ("Port in server address 127.0.0.1:9092 is already in use.", "ENGINE-E110", "9092"),
        ("[Errno 98] bind on address ('127.0.0.1', 8000): address already in use", "ENGINE-E110", ""),
        ("[code: 2004] Failed to activate SuperNode.", "ENGINE-E125", "2004"),
        ("[code: 2001] SuperNode authentication is enabled.", "ENGINE-E125", "2001"),
        ("certificate verify failed: certificate has expired", "ENGINE-E120", "certificate has expired"),
        ("IP address mismatch, certificate is not valid for '10.0.0.1'", "ENGINE-E121", "10.0.0.1"),
        ("unable to get local issuer certificate", "ENGINE-E122", "local issuer"),
        ("CERTIFICATE_VERIFY_FAILED: certificate is not yet valid: OK", "ENGINE-E123", "not yet valid"),
        ("SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER: OK", "ENGINE-E129", "WRONG_VERSION"),
        ("Starting Flower SuperNode\nINFO: SuperNode terminated gracefully.\nINFO: bye", "ENGINE-E127", "gracefully"),
        ("Starting Flower SuperNode\nSuperNode ID: 1\nSuperNode terminated gracefully.", "ENGINE-E111", "gracefully"),
        ("Connection attempt failed, retrying in 2.07 seconds", "ENGINE-E126", "retrying"),
        ("Connection attempt failed, retrying in 2.07 seconds\nSuperNode ID: 1", "ENGINE-E111", "retrying"),
        ("ModuleNotFoundError: No module named 'torch'", "ENGINE-E112", "torch"),
        ("SITE-E014 no column 'note_txt'", "ENGINE-E113", "note_txt"),
        ("something new", "ENGINE-E111", "something new"),
    ],
)  # fmt: skip
def test_a_log_is_explained(tmp_path: Path, line: str, code: str, found: str) -> None:
    log = tmp_path / "x.log"
    log.write_text(f"starting\n{line}\n")
    error = explain("supernode hospital-a", log)
    assert error.code == code
    assert found in error.found
    assert "supernode hospital-a" in str(error)
    assert str(log) in str(error)

"""A trainer in a network namespace of its own, where the kernel counts every attempt to reach anything."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from client_app.trainer.connect import SocketTrainer
from fedfm.config.compose import compose_study
from fedfm.model.build import build_model
from fedfm.parameters import trainable
from tests.integration.conftest import TINY, request, write_hospital

ALONE = ("unshare", "--net") if os.geteuid() == 0 else ("unshare", "--map-root-user", "--net")


def may_unshare() -> bool:
    try:
        return subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not may_unshare(), reason="needs unshare --net, which this system does not allow"),
]


def attempts(pid: int) -> dict[str, int]:
    """What left a process's network namespace by IPv4 or tried to, also where there was no route."""
    found = {}
    rows = Path(f"/proc/{pid}/net/snmp").read_text().splitlines()
    for names, values in zip(rows[::2], rows[1::2], strict=True):
        protocol, _, columns = names.partition(":")
        counts = values.partition(":")[2].split()
        found.update({f"{protocol}.{name}": int(count) for name, count in zip(columns.split(), counts, strict=True)})
    wanted = ("Tcp.ActiveOpens", "Udp.OutDatagrams", "Ip.OutRequests", "Ip.OutNoRoutes")
    return {name: found[name] for name in wanted}


def test_the_counters_see_an_attempt() -> None:
    code = """
import socket, sys
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    with socket.socket(socket.AF_INET, kind) as one:
        try:
            one.connect(("192.0.2.1", 443))
        except OSError:
            pass
print("tried", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [*ALONE, sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "tried\n"
        seen = attempts(process.pid)
        process.communicate("")
    assert seen["Ip.OutNoRoutes"] == 2, seen


def test_a_trainer_never_tries_to_reach_anything(tmp_path: Path) -> None:
    site_file, socket = write_hospital(tmp_path / "a"), tmp_path / "t.sock"
    study = compose_study(TINY).value
    start = trainable(build_model(study.model, study.adapter, study.task, seed=study.seed))
    command = [*ALONE, sys.executable, "-m", "client_app.trainer", str(site_file), "--socket", str(socket)]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", (tmp_path / "log").read_text()
            trainer = SocketTrainer(str(socket))
            assert trainer.describe(request(0, {})).site == "hospital-a"
            trainer.train(request(1, start))
            trainer.evaluate(request(3, start))
            time.sleep(0.5)  # what a library might send from a thread of its own
            assert set(attempts(process.pid).values()) == {0}, attempts(process.pid)
        finally:
            process.terminate()

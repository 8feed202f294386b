"""The boundary of a trainer in a process of its own: garbage on its socket, too much, and callers that die."""

import os
import signal
import socket as sockets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest

from client_app.audit_log import FILE, AuditLog
from client_app.trainer.connect import SocketTrainer
from client_app.trainer.messages import request_to_proto
from client_app.trainer.trainer_pb2_grpc import TrainerStub
from fedfm.errors import FedFMError
from tests.integration.boundary import START
from tests.integration.conftest import CANARY, TrainerProcess, request, write_hospital

Start = Callable[[Path], TrainerProcess]


def is_well(running: TrainerProcess) -> bool:
    assert running.process.poll() is None
    return SocketTrainer(str(running.socket)).describe(request(0, {})).site == "hospital-a"


def test_garbage_a_cut_connection_and_too_much_leave_the_trainer_well(tmp_path: Path, start_trainer: Start) -> None:
    running = start_trainer(write_hospital(tmp_path / "a"))
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for data in (b"", b"\0" * 5000, os.urandom(5000), b"GET / HTTP/1.1\r\n\r\n", preface, preface + os.urandom(5000)):
        with sockets.socket(sockets.AF_UNIX) as caller:
            caller.connect(str(running.socket))
            try:
                caller.sendall(data)
            except BrokenPipeError:
                continue
    assert is_well(running)
    with grpc.insecure_channel(f"unix:{running.socket}") as channel:
        call = channel.unary_unary("/fedfm.trainer.v1.Trainer/Train")
        assert b"SITE-E138" in call(os.urandom(3000), timeout=20)
        with pytest.raises(grpc.RpcError) as unknown:
            channel.unary_unary("/fedfm.trainer.v1.Trainer/Export")(b"", timeout=20)
        assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED
        abandoned = TrainerStub(channel).Train.future(request_to_proto(request(1, START)))
    abandoned.cancel()
    assert is_well(running)
    log = AuditLog(tmp_path / "a" / "state")
    assert CANARY not in str(log.entries())


@pytest.mark.slow
def test_a_message_of_600_mb_is_refused_by_a_code_and_not_taken_in(tmp_path: Path, start_trainer: Start) -> None:
    running = start_trainer(write_hospital(tmp_path / "a"))
    assert is_well(running)
    large = {"head.weight": np.zeros(150_000_000, np.float32)}
    with pytest.raises(FedFMError, match="SITE-E137"):
        SocketTrainer(str(running.socket)).train(request(1, large))
    peak = int(Path(f"/proc/{running.process.pid}/status").read_text().partition("VmHWM:")[2].split()[0])
    assert peak < 1_500_000  # kB; torch and the model are the most of it
    assert is_well(running)
    assert not (tmp_path / "a" / "state" / "ledger-hospital-a.jsonl").exists()


CALLER = """
import sys
from client_app.trainer.connect import SocketTrainer
from tests.integration.conftest import request
from tests.integration.boundary import START
print("asking", flush=True)
SocketTrainer(sys.argv[1]).train(request(1, START, "training.local_steps=300", "rounds=1"))
"""


@pytest.mark.slow
def test_a_client_app_killed_in_the_middle_leaves_the_trainer_well_and_the_round_charged(
    tmp_path: Path, start_trainer: Start
) -> None:
    running = start_trainer(write_hospital(tmp_path / "a"))
    with subprocess.Popen([sys.executable, "-c", CALLER, str(running.socket)], stdout=subprocess.PIPE) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == b"asking\n"
        ledger = tmp_path / "a" / "state" / "ledger-hospital-a.jsonl"
        _wait_for(ledger)
        caller.send_signal(signal.SIGKILL)
    assert is_well(running)
    kinds = [entry["kind"] for entry in AuditLog(tmp_path / "a" / "state").entries()]
    assert kinds.count("Train") == kinds.count("TrainAnswer") == 1  # the answer was made, and written down


@pytest.mark.slow
def test_a_trainer_killed_between_request_and_answer_leaves_a_whole_log(tmp_path: Path, start_trainer: Start) -> None:
    site_file = write_hospital(tmp_path / "a")
    running = start_trainer(site_file)
    with grpc.insecure_channel(f"unix:{running.socket}") as channel:
        asked = request_to_proto(request(1, START, "training.local_steps=900", "rounds=1"))
        future = TrainerStub(channel).Train.future(asked)
        _wait_for(tmp_path / "a" / "state" / FILE)
        running.kill()
        with pytest.raises(grpc.RpcError):
            future.result(timeout=20)
    entries = AuditLog(tmp_path / "a" / "state").entries()
    assert [entry["direction"] for entry in entries] == ["entered"]
    assert is_well(start_trainer(site_file))


def _wait_for(path: Path) -> None:
    for _ in range(1200):
        if path.exists() and path.read_bytes().endswith(b"\n"):
            return
        time.sleep(0.05)
    pytest.fail(f"{path} was not written")

"""How much the trainer takes in at once: places before anything is read, one message read at a time, bytes bounded."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from client_app.audit_log import AuditLog
from client_app.trainer import service as module
from client_app.trainer import trainer_pb2 as pb
from client_app.trainer.calls import CALLS
from client_app.trainer.connect import SocketTrainer
from client_app.trainer.room import Room
from client_app.trainer.service import MAX_MESSAGE_BYTES, MOST_AT_ONCE, Service, serve
from client_app.trainer.warm import Trainer
from fedfm.arrays import to_bytes
from fedfm.config.compose import load_site
from fedfm.errors import FedFMError
from tests.integration.boundary import START, asked
from tests.integration.conftest import CANARY, TrainerProcess, request, write_hospital

MB = 2**20


class Busy:
    """Holds whoever has the turn until the test lets go, and counts what is read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.read: list[int] = []
        answer, message = Service._replied, module._message

        def waiting(*args: Any) -> bytes:
            self.begun.set()
            assert self.go.wait(20)
            return answer(*args)

        def counted(*args: Any) -> bytes:
            data = message(*args)
            self.read.append(len(data))
            return data

        monkeypatch.setattr(Service, "_replied", waiting)
        monkeypatch.setattr(module, "_message", counted)


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    return write_hospital(tmp_path / "a")


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Busy]:
    made = Busy(monkeypatch)
    yield made
    made.go.set()


def codes(answers: list[bytes], name: str) -> list[str]:
    return [CALLS[name].answer.FromString(data).refusal.code for data in answers]  # type: ignore[attr-defined]


def asking(channel: grpc.Channel, name: str, data: bytes) -> "Future[bytes]":
    call = channel.unary_unary(f"/{module.SERVICE}/{name}")
    return call.future(data, timeout=30)  # type: ignore[no-any-return]


def large(megabytes: int) -> bytes:
    message = asked("Train")
    message.parameters = to_bytes({"head.weight": np.zeros(megabytes * MB // 4, np.float32)})
    return message.SerializeToString()


def test_where_no_place_is_left_nothing_is_read_and_status_answers(
    tmp_path: Path, site_file: Path, busy: Busy, serve_here: Callable[[Path], Path]
) -> None:
    socket = serve_here(site_file)
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        small = asked("Describe").SerializeToString()
        waiting = [asking(channel, "Describe", small) for _ in range(MOST_AT_ONCE)]
        assert busy.begun.wait(20)
        while len(busy.read) < MOST_AT_ONCE:
            threading.Event().wait(0.01)
        refused = [asking(channel, "Train", large(40)).result() for _ in range(3)]
        assert codes(refused, "Train") == ["SITE-E139"] * 3
        assert busy.read == [len(small)] * MOST_AT_ONCE
        assert SocketTrainer(str(socket)).status().site == "hospital-a"
        busy.go.set()
        assert codes([one.result() for one in waiting], "Describe") == [""] * MOST_AT_ONCE
        assert codes([asking(channel, "Describe", small).result()], "Describe") == [""]
    entries = AuditLog(tmp_path / "a" / "state").entries()
    unread = [entry["bytes"] for entry in entries if entry["kind"] == "Train"]
    assert unread == [0, 0, 0]  # refused, and written down as what was not taken in
    assert sum(entry["kind"] == "TrainAnswer" for entry in entries) == 3


def test_bytes_that_wait_are_bounded_and_who_was_refused_may_ask_again(
    site_file: Path, busy: Busy, serve_here: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_MESSAGE_BYTES", 5 * MB)
    with grpc.insecure_channel(f"unix:{serve_here(site_file)}") as channel:
        first = asking(channel, "Train", large(3))
        assert busy.begun.wait(20)
        assert codes([asking(channel, "Train", large(3)).result()], "Train") == ["SITE-E139"]
        small = asking(channel, "Describe", asked("Describe").SerializeToString())
        busy.go.set()
        assert codes([first.result(), asking(channel, "Train", large(3)).result()], "Train") == ["WIRE-E010"] * 2
        assert codes([small.result()], "Describe") == [""]
        assert codes([asking(channel, "Train", large(7)).result()], "Train") == ["WIRE-E010"]  # alone, it has room


def test_one_message_is_read_at_a_time(site_file: Path) -> None:
    service = Service(Trainer(load_site(site_file)))
    inside, most, lock = [0], [0], threading.Lock()

    def read() -> bytes:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        threading.Event().wait(0.01)
        with lock:
            inside[0] -= 1
        return asked("Describe").SerializeToString()

    with ThreadPoolExecutor(MOST_AT_ONCE) as threads:
        answers = list(threads.map(lambda _: service.take("Describe", read), range(MOST_AT_ONCE)))
    assert codes(answers, "Describe") == [""] * MOST_AT_ONCE
    assert most == [1]


def test_places_and_room_come_back_whatever_happens(site_file: Path) -> None:
    service = Service(Trainer(load_site(site_file)))

    def broken() -> bytes:
        raise ConnectionAbortedError

    for _ in range(MOST_AT_ONCE + 1):
        with pytest.raises(ConnectionAbortedError):
            service.take("Describe", broken)
        assert codes([service.answer("Train", b"\xff" * 1000)], "Train") == ["SITE-E138"]
    assert codes([service.answer("Describe", asked("Describe").SerializeToString())], "Describe") == [""]
    assert service._room._held == 0


def test_who_sends_too_slowly_does_not_keep_the_others_out(
    site_file: Path, serve_here: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_READING_SECONDS", 0.3)
    never = threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait(20)
        yield from ()

    with grpc.insecure_channel(f"unix:{serve_here(site_file)}") as channel:
        slow = channel.stream_unary(f"/{module.SERVICE}/Train").future(nothing(), timeout=30)
        data = asked("Describe").SerializeToString()
        assert codes([asking(channel, "Describe", data).result()], "Describe") == [""]
        with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
            slow.result()
        never.set()


def test_beyond_all_calls_grpc_refuses_and_the_client_app_says_what_that_is(
    tmp_path: Path, site_file: Path, busy: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_CALLS", 1)
    path = tmp_path / "s.sock"
    server = serve(Trainer(load_site(site_file)), path)
    with grpc.insecure_channel(f"unix:{path}") as channel:
        first = asking(channel, "Describe", asked("Describe").SerializeToString())
        assert busy.begun.wait(20)
        with pytest.raises(FedFMError, match="SITE-E139"):
            SocketTrainer(str(path)).describe(request(0, {}))
        busy.go.set()
        assert codes([first.result()], "Describe") == [""]
    server.stop(grace=None).wait()


def test_room_is_that_of_all_together() -> None:
    room = Room(2, 10)
    assert [room.enter(), room.enter(), room.enter()] == [True, True, False]
    assert [room.hold(6), room.hold(5), room.hold(4)] == [True, False, True]
    room.release(6)
    assert room.hold(6)
    room.leave()
    assert room.enter()
    assert "2 requests of 10 bytes together" in str(room.full())


@pytest.mark.slow
def test_many_large_requests_at_once_do_not_take_the_memory(
    tmp_path: Path, start_trainer: Callable[[Path], TrainerProcess], site_file: Path
) -> None:
    """Eight of 200 MB each; each refused as what it is, none by the death of the trainer."""
    running = start_trainer(site_file)
    SocketTrainer(str(running.socket)).describe(request(0, {}))
    before = peak_of(running)
    data = large(200)
    with grpc.insecure_channel(f"unix:{running.socket}", options=[("grpc.max_send_message_length", -1)]) as channel:
        busy = asking(channel, "Train", train_long())
        told = codes([one.result() for one in [asking(channel, "Train", data) for _ in range(8)]], "Train")
        busy.cancel()
    assert set(told) <= {"SITE-E139", "WIRE-E010"}
    assert peak_of(running) - before < 4 * MAX_MESSAGE_BYTES / 1024  # kB; three times as much where all were taken in
    assert CANARY not in str(AuditLog(tmp_path / "a" / "state").entries())


def train_long() -> bytes:
    from client_app.trainer.messages import request_to_proto  # noqa: PLC0415

    return request_to_proto(request(1, START, "training.local_steps=600", "rounds=1")).SerializeToString()


def peak_of(running: TrainerProcess) -> int:
    return int(Path(f"/proc/{running.process.pid}/status").read_text().partition("VmHWM:")[2].split()[0])


def test_a_status_is_no_stream(site_file: Path) -> None:
    made = module.handlers(Service(Trainer(load_site(site_file))))
    assert {name for name, one in made.items() if one.request_streaming} == set(CALLS)
    assert pb.StatusAnswer.FromString(made["Status"].unary_unary(b"", None)).site == "hospital-a"  # type: ignore[misc]

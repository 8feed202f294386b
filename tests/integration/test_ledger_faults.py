"""A trainer that dies at any write of its ledger: what was spent is never more than what is recorded."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from client_app import chain
from client_app.ledger import Charge, Ledger, Limits
from client_app.trainer.connect import SocketTrainer
from client_app.trainer.messages import request_to_proto
from client_app.trainer.trainer_pb2_grpc import TrainerStub
from fedfm.errors import DataError
from fedfm.privacy import Release, epsilon
from tests.integration.conftest import TrainerProcess, request, write_hospital

OPEN = Limits(run=100.0, total=100.0, delta=1e-4)
CALLS = ("open", "write", "fsync", "close")
WAYS = ("before", "after", "first byte", "torn", "all but the line feed")
TORN = {"first byte": slice(1), "torn": slice(40), "all but the line feed": slice(-1)}


def charge(round_: int) -> Charge:
    return Charge("run-1", "study", round_, "train", "training", Release(4.0, 1.0, 2))


def die_at(number: int, way: str) -> Callable[[], int]:
    """Kill this process at its number-th call of the system; return a function that tells how many there were."""
    count = 0

    def wrapped(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            nonlocal count
            count += 1
            if count != number:
                return real(*arguments)
            if way in TORN and name == "write":
                real(arguments[0], bytes(arguments[1])[TORN[way]])  # type: ignore[call-overload]
            elif way == "after":
                real(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
            return None

        return call

    for name in CALLS:
        setattr(chain.os, name, wrapped(name, getattr(os, name)))
    return lambda: count


def charge_and_spend(folder: Path, number: int, way: str) -> int:
    """In a child process: charge, then spend two steps, dying on the way; return the calls it made, if it lived."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        spend, real_write = os.open(folder / "spent", os.O_WRONLY | os.O_APPEND | os.O_CREAT), os.write
        calls = die_at(number, way)
        Ledger(folder, "c").charge(charge(2), OPEN)
        real_write(spend, b"2\n")
        real_write(write, str(calls()).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    told = os.read(read, 20)
    os.close(read)
    return int(told or 0)


@pytest.mark.parametrize("is_first", [True, False], ids=["first charge", "later charge"])
@pytest.mark.parametrize("way", WAYS)
def test_a_kill_at_every_write_never_loses_what_was_spent(tmp_path: Path, way: str, *, is_first: bool) -> None:
    before = 0 if is_first else 1
    number = 0
    while True:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        for _ in range(before):
            Ledger(folder, "c").charge(charge(1), OPEN)
        survived = charge_and_spend(folder, number, way)
        spent = (folder / "spent").read_text().count("\n")
        after = Ledger(folder, "c")
        assert spent + before <= len(after.charges()) <= 1 + before
        after.charge(charge(3), OPEN)  # nobody has to mend anything
        steps = 2 * len(after.charges())
        assert Ledger(folder, "c").epsilon("train", 1e-4) == epsilon([Release(4.0, 1.0, steps)], 1e-4)
        if survived:
            assert (
                number > survived >= 4
            )  # each was once the last: open, write, fsync, close, and those of a new folder
            break


def test_a_kill_before_the_charge_is_on_disk_is_caught_by_this_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that writes after it has returned would be found."""
    monkeypatch.setattr(Ledger, "charge", lambda *_: None)
    charge_and_spend(tmp_path, 10**6, "before")
    assert (tmp_path / "spent").read_text() == "2\n"
    assert Ledger(tmp_path, "c").charges() == []


@pytest.mark.parametrize("cut", [1, 40, -1])
def test_a_torn_line_is_finished_and_counts(tmp_path: Path, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(tmp_path, "c")
    for round_ in (1, 2):
        ledger.charge(charge(round_), OPEN)
    whole = ledger.path.read_bytes()
    start = whole.index(b"\n") + 1
    ledger.path.write_bytes(whole[:start] + whole[start:][:cut])
    restarted = Ledger(tmp_path, "c")
    assert restarted.epsilon("train", 1e-4) == epsilon([Release(4.0, 1.0, 4)], 1e-4)
    assert ledger.path.read_bytes() != whole  # who only reads changes nothing
    restarted.charge(charge(3), OPEN)
    assert ledger.path.read_bytes().startswith(whole)
    assert "cut short" in caplog.text
    assert [charge.round for charge in Ledger(tmp_path, "c").charges()] == [1, 2, 3]


def test_a_crash_while_a_torn_line_is_finished_loses_nothing(tmp_path: Path) -> None:
    Ledger(tmp_path, "c").charge(charge(1), OPEN)
    for number in range(1, 12):
        charge_and_spend(tmp_path, 10**6, "before")  # leaves a draft of its line
        path = tmp_path / "ledger-c.jsonl"
        path.write_bytes(path.read_bytes()[:-50])
        charge_and_spend(tmp_path, number, "torn")
        spent = (tmp_path / "spent").read_text().count("\n")
        assert len(Ledger(tmp_path, "c").charges()) >= 1 + spent


@pytest.mark.parametrize("line", [1, 2, 3])
@pytest.mark.parametrize("has_draft", [True, False])
def test_a_file_that_was_cut_is_no_torn_line(tmp_path: Path, line: int, *, has_draft: bool) -> None:
    """A copy that stopped in the middle lacks charges that were acted on; only the last line has a draft."""
    ledger = Ledger(tmp_path, "c")
    for round_ in (1, 2, 3):
        ledger.charge(charge(round_), OPEN)
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    ledger.path.write_bytes(b"".join(lines[: line - 1]) + lines[line - 1][:100])
    if not has_draft:
        (tmp_path / "ledger-c.jsonl.next").unlink()
    if line == 3 and has_draft:
        assert len(Ledger(tmp_path, "c").charges()) == 3
        return
    before = ledger.path.read_bytes()
    for use in (lambda: Ledger(tmp_path, "c").charges(), lambda: Ledger(tmp_path, "c").charge(charge(4), OPEN)):
        with pytest.raises(DataError, match="SITE-E115"):
            use()
    assert ledger.path.read_bytes() == before


@pytest.mark.parametrize("keep", [0, 1])
def test_lines_that_are_missing_at_the_end_are_noticed_after_a_restart(tmp_path: Path, keep: int) -> None:
    ledger = Ledger(tmp_path, "c")
    for round_ in (1, 2, 3):
        ledger.charge(charge(round_), OPEN)
    ledger.path.write_bytes(b"".join(ledger.path.read_bytes().splitlines(keepends=True)[:keep]))
    if not keep:
        ledger.path.unlink()
    for _ in range(2):
        with pytest.raises(DataError, match=r"SITE-E115.*lines are missing"):
            Ledger(tmp_path, "c").charge(charge(4), OPEN)


@pytest.mark.parametrize(
    "draft", [b"", b"{", b"[]\n", b"\xff\n", b'{"n": "1"}\n', b'{"n": 9, "previous": "", "seal": ""}\n']
)
def test_a_draft_that_is_not_whole_says_nothing(tmp_path: Path, draft: bytes) -> None:
    ledger = Ledger(tmp_path, "c")
    ledger.charge(charge(1), OPEN)
    (tmp_path / "ledger-c.jsonl.next").write_bytes(draft)
    again = Ledger(tmp_path, "c")
    again.charge(charge(2), OPEN)
    assert len(again.charges()) == 2


def test_who_saw_an_older_file_put_in_place_refuses_ever_after(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "c")
    ledger.charge(charge(1), OPEN)
    older = ledger.path.read_bytes()
    ledger.charge(charge(2), OPEN)
    (tmp_path / "ledger-c.jsonl.next").unlink()
    ledger.path.write_bytes(older)
    for _ in range(3):
        for use in (lambda: ledger.epsilon("train", 1e-4), lambda: ledger.charge(charge(3), OPEN)):
            with pytest.raises(DataError, match=r"SITE-E115.*an older"):
                use()
    assert ledger.path.read_bytes() == older


WRAPPER = """
import os, signal, sys
from pathlib import Path
number, way, steps = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
real = os.fsync
count = 0
def fsync(file):
    global count
    count += 1
    if count == number and way == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(file)
    if count == number:
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = fsync
from client_app import private_step
step = private_step.SecureDPOptimizer.add_noise
def counted(self):
    with steps.open("a") as file:
        file.write("step\\n")
    return step(self)
private_step.SecureDPOptimizer.add_noise = counted
from client_app.trainer.__main__ import main
main(Path(sys.argv[4]), Path(sys.argv[5]))
"""


@pytest.fixture
def start_doomed(tmp_path: Path) -> Iterator[Callable[[Path, int, str], TrainerProcess]]:
    """Start trainers that kill themselves at a flush to the disk."""
    started: list[subprocess.Popen[str]] = []

    def start(site_file: Path, number: int, way: str) -> TrainerProcess:
        socket = tmp_path / f"d{len(started)}.sock"
        arguments = [str(number), way, str(tmp_path / "steps"), str(site_file), str(socket)]
        process = subprocess.Popen(
            [sys.executable, "-c", WRAPPER, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return TrainerProcess(socket, site_file, process)

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_trainer_killed_at_any_flush_has_spent_no_more_than_it_recorded(
    tmp_path: Path, start_doomed: Callable[[Path, int, str], TrainerProcess]
) -> None:
    from fedfm.config.compose import compose_study  # noqa: PLC0415
    from fedfm.model.build import build_model  # noqa: PLC0415 - torch
    from fedfm.parameters import trainable  # noqa: PLC0415
    from tests.integration.conftest import TINY  # noqa: PLC0415

    study = compose_study(TINY).value
    parameters = trainable(build_model(study.model, study.adapter, study.task, seed=study.seed))
    site_file = write_hospital(tmp_path / "a", policy="max_epsilon: 50")
    ledger = tmp_path / "a" / "state"
    charged_steps = study.training.local_steps
    # flushes: audit log and its folder, ledger and its folder, and, after training, the audit log again
    ways = [(1, "before"), (2, "after"), (3, "before"), (3, "after"), (4, "after"), (5, "before"), (5, "after")]
    for asked, (number, way) in enumerate(ways, start=1):
        doomed = start_doomed(site_file, number, way)
        with grpc.insecure_channel(f"unix:{doomed.socket}") as channel, pytest.raises(grpc.RpcError):
            TrainerStub(channel).Train(request_to_proto(request(1, parameters, run=f"run-{asked}")), timeout=60)
        doomed.process.wait()
        steps = (tmp_path / "steps").read_text().count("step\n") if (tmp_path / "steps").exists() else 0
        recorded = sum(charge.release.steps for charge in Ledger(ledger, "hospital-a").charges())
        assert steps <= recorded <= asked * charged_steps
    survivor = start_doomed(site_file, 10**6, "before")
    described = SocketTrainer(str(survivor.socket)).describe(request(0, {}))
    history = Ledger(ledger, "hospital-a").charges()
    assert steps == 2 * charged_steps  # of the two that were killed after training, and of nobody else
    assert recorded == 5 * charged_steps  # and of those that died with the charge written, not yet told
    taken = Release(history[0].release.noise_multiplier, 1.0, steps)
    assert described.privacy.train >= epsilon([taken], described.privacy.delta)

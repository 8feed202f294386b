"""The trainer's boundary, through the service: whatever is asked or breaks, a coded answer."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client_app.audit_log import FILE, AuditLog
from client_app.chain import Chain
from client_app.trainer import calls, outgoing
from client_app.trainer import trainer_pb2 as pb
from client_app.trainer import warm as warm_module
from client_app.trainer.calls import CALLS
from client_app.trainer.messages import request_to_proto
from client_app.trainer.service import MOST_AT_ONCE, SERVICE, Service, handlers, serve
from client_app.trainer.trainer_pb2_grpc import TrainerStub
from client_app.trainer.warm import Trainer
from fedfm.arrays import Arrays, to_bytes
from fedfm.config.compose import compose_study, load_site
from fedfm.config.policy import policy_hash
from fedfm.model.build import build_model
from fedfm.parameters import trainable
from fedfm.wire import WIRE_VERSION, Head
from tests.integration.conftest import CANARY, TINY, request, study_json, write_hospital

STUDY = compose_study(TINY).value
START: Arrays = trainable(build_model(STUDY.model, STUDY.adapter, STUDY.task, seed=STUDY.seed))


@dataclass
class Hospital:
    """A trainer behind its service, without a socket."""

    folder: Path
    service: Service

    @property
    def ledger(self) -> bytes:
        path = self.folder / "state" / "ledger-hospital-a.jsonl"
        return path.read_bytes() if path.exists() else b""

    def ask(self, name: str, message: pb.Request | bytes) -> Any:
        """The answer; never an incident, and where it is a refusal, nothing is spent."""
        before = self.ledger
        data = message if isinstance(message, bytes) else message.SerializeToString()
        answer = CALLS[name].answer.FromString(self.service.answer(name, data))  # type: ignore[attr-defined]
        if answer.WhichOneof("answer") == "refusal":
            assert answer.refusal.code not in ("SITE-E500", "SITE-E136"), answer.refusal.text
            # the second charge of an answer may be one too many; the first stays, as a charge does
            assert self.ledger == before or answer.refusal.code == "SITE-E104"
        else:
            assert answer.WhichOneof("answer") == CALLS[name].part
        return answer

    def good(self) -> Any:
        """A good request is answered next."""
        answer = self.ask("Describe", asked("Describe"))
        assert answer.description.site == "hospital-a", answer.refusal.text
        return answer


RUNS = itertools.count()


def asked(name: str, round_: int = 1) -> pb.Request:
    """A good request, of a run of its own."""
    return request_to_proto(request(round_, START if CALLS[name].with_arrays else {}, run=f"run-{next(RUNS)}"))


def hospital_in(folder: Path, *, policy: str = "") -> Hospital:
    return Hospital(folder, Service(Trainer(load_site(write_hospital(folder, policy=policy)))))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """One whose budget hardly ends, for the requests of many examples."""
    return hospital_in(tmp_path_factory.mktemp("boundary") / "a", policy="max_epsilon: 100")


@pytest.fixture
def own(tmp_path: Path) -> Hospital:
    return hospital_in(tmp_path / "a")


many = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
names = st.sampled_from(sorted(CALLS))
odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["none", "\ud800", "\x00", "${oc.env:HOME}", "a" * 5000, [], {}, [[[[[[[[1]]]]]]]], ["a", "a"]]),
)


# What a coordinator can send: bytes, fields, study, arrays


@many
@given(data=st.binary(max_size=200), name=names)
def test_bytes_that_are_no_message_are_refused_with_a_code(hospital: Hospital, data: bytes, name: str) -> None:
    assert hospital.ask(name, data).WhichOneof("answer") == "refusal"


@many
@given(
    name=names,
    changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255), st.booleans()), min_size=1, max_size=3),
)
def test_changed_bytes_of_a_good_request_are_refused_or_answered(
    hospital: Hospital, name: str, changes: list[tuple[int, int, bool]]
) -> None:
    data = bytearray(asked(name).SerializeToString())
    for at, value, is_cut in changes:
        place = at % len(data)
        data[place : place + 1] = b"" if is_cut else bytes([value])
    hospital.ask(name, bytes(data))
    hospital.good()


@many
@given(
    name=names,
    field=st.sampled_from([field.name for field in pb.Request.DESCRIPTOR.fields]),
    text=st.text(max_size=100),
    number=st.integers(0, 2**32 - 1),
    data=st.binary(max_size=100),
)
def test_any_value_of_a_field_is_refused_or_answered(
    hospital: Hospital, name: str, field: str, text: str, number: int, data: bytes
) -> None:
    message = asked(name)
    for value in (text, number, data):
        try:
            setattr(message, field, value)
        except (TypeError, ValueError):
            continue
    hospital.ask(name, message)


def _paths(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield from _paths(tree[key], (*path, key))


PATHS = sorted((path for path in _paths(json.loads(study_json())) if path), key=str)


@many
@given(name=names, path=st.sampled_from(PATHS), value=odd, how=st.sampled_from(["set", "drop", "add", "repeat"]))
def test_a_changed_study_is_refused_or_answered(
    hospital: Hospital, name: str, path: tuple[Any, ...], value: Any, how: str
) -> None:
    study = json.loads(study_json())
    around = study
    for key in path[:-1]:
        around = around[key]
    if how == "drop":
        del around[path[-1]]
    elif how == "repeat":
        around[path[-1]] = [around[path[-1]]] * 3
    elif how == "add" and isinstance(around, dict):
        around[str(value)] = value
    else:
        around[path[-1]] = value
    message = asked(name)
    message.study_json = json.dumps(study)
    hospital.ask(name, message)


UNREADABLE = {
    "depth": "[" * 200_000,
    "depth of maps": '{"a":' * 100_000,
    "length": " " * 1_000_001,
    "a key given twice": study_json()[:-1] + ',"rounds":3}',
    "NaN": study_json().replace('"rounds":3', '"rounds":NaN'),
    "Infinity": study_json().replace('"rounds":3', '"rounds":-Infinity'),
    "beyond a float": study_json().replace('"rounds":3', '"rounds":1e999'),
    "a number of 5,000 digits": study_json().replace('"rounds":3', '"rounds":' + "9" * 5000),
    "no map": "[]",
    "null": "null",
    "nothing": "",
    "half a letter": study_json().replace('"demo"', '"\\ud800"'),
    "no such rule at the site": study_json("reweighting=none").replace(
        '"reweighting":{"rule":"none"', '"reweighting":{"rule":"mine"'
    ),
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE)
def test_a_study_that_cannot_be_is_refused(hospital: Hospital, text: str) -> None:
    message = asked("Train")
    message.study_json = text
    assert hospital.ask("Train", message).refusal.code.startswith("STUDY-E0")
    hospital.good()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("setting", ["labels", "groups", "intersections", "columns"])
def test_a_list_of_80_000_names_takes_no_minutes(hospital: Hospital, setting: str) -> None:
    """A hospital answers one request at a time: a list that takes the square of its length keeps all others out."""
    study = json.loads(study_json())
    study["task"][setting] = [f"n{number:05d}" for number in range(80_000)]
    message = asked("Describe")
    message.study_json = json.dumps(study)
    answer = hospital.ask("Describe", message)
    assert answer.refusal.code.startswith("STUDY-E0") or setting == "groups"
    assert len(answer.refusal.text) <= 4100


@many
@given(
    part=st.sampled_from(["parameters", "frozen", "statistics"]),
    at=st.integers(0, 5000),
    value=st.integers(0, 255),
    how=st.sampled_from(["set", "cut", "twice", "huge", "nan", "float64"]),
)
def test_changed_arrays_are_refused_or_answered(hospital: Hospital, part: str, at: int, value: int, how: str) -> None:
    message = asked("Evaluate")
    data = bytearray(to_bytes(START))
    if how == "set":
        data[at % len(data)] = value
    elif how == "cut":
        del data[at % len(data) :]
    elif how == "twice":
        data = bytearray(bytes(data) * 2)
    elif how == "huge":
        data = bytearray(bytes(data).replace(b'"shape":[', b'"shape":[99999999999,', 1))
    elif how == "nan":
        data = bytearray(to_bytes({name: array * np.float32("nan") for name, array in START.items()}))
    else:
        data = bytearray(bytes(data).replace(b"F32", b"F64"))
    setattr(message, part, bytes(data))
    hospital.ask("Evaluate", message)


def _with(**changes: Any) -> Callable[[pb.Request], None]:
    return lambda message: [setattr(message, name, value) for name, value in changes.items()]  # type: ignore[return-value]


def _unknown(message: pb.Request) -> None:
    message.MergeFromString(b"\xfa\x3f\x05hello")  # field 1023


CODED: dict[str, tuple[str, str, Callable[[pb.Request], None]]] = {
    "another wire version": ("Describe", "SITE-E141", _with(wire_version=WIRE_VERSION - 1)),
    "a field of another release": ("Train", "SITE-E138", _unknown),
    "arrays where none are taken": ("Describe", "SITE-E138", _with(parameters=to_bytes(START))),
    "statistics where none are taken": ("Summarise", "SITE-E138", _with(statistics=to_bytes(START))),
    "large statistics": ("Evaluate", "SITE-E137", _with(statistics=b"x" * (2**20 + 1))),
    "a layout that is none": ("Train", "SITE-E138", _with(layout="../../etc/passwd")),
    "another layout": ("Train", "SITE-E133", _with(layout="ab" * 32)),
    "a seal that is none": ("Train", "SITE-E138", _with(ledger_seal="A" * 64)),
    "an audit seal that is none": ("Train", "SITE-E138", _with(audit_seal="x" * 2**20)),
    "an absurd ledger": ("Train", "SITE-E116", _with(ledger_entries=2**64 - 1, ledger_seal="ab" * 32)),
    "an absurd audit log": ("Train", "SITE-E118", _with(audit_entries=2**64 - 1, audit_seal="ab" * 32)),
    "a run that is a path": ("Train", "SITE-E135", _with(run="../run")),
    "a round that never is": ("Train", "SITE-E135", _with(round=2**32 - 1)),
}


@pytest.mark.parametrize(("name", "code", "change"), CODED.values(), ids=CODED)
def test_each_thing_that_cannot_be_has_its_code(
    hospital: Hospital, name: str, code: str, change: Callable[[pb.Request], None]
) -> None:
    message = asked(name)
    change(message)
    assert hospital.ask(name, message).refusal.code == code
    hospital.good()


def test_requests_beyond_those_that_may_wait_are_refused_at_once_and_status_answers(
    own: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go = threading.Semaphore(0), threading.Event()

    def waiting(*_: object, **__: object) -> None:
        entered.release()
        go.wait(20)

    monkeypatch.setattr("client_app.trainer.service.request_of", waiting)
    threads = [
        threading.Thread(target=own.service.answer, args=("Describe", asked("Describe").SerializeToString()))
        for _ in range(MOST_AT_ONCE)
    ]
    for thread in threads:
        thread.start()
    assert all(entered.acquire(timeout=20) for _ in threads)
    assert own.ask("Describe", asked("Describe")).refusal.code == "SITE-E139"
    assert pb.StatusAnswer.FromString(own.service.status()).site == "hospital-a"
    go.set()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    own.good()


# The head of the audit log


def test_an_answer_states_the_head_before_its_own_entry(own: Hospital) -> None:
    """The request is in it, the answer is not; each entry names the release and the policy that judged."""
    stated = []
    for name, part in (("Describe", "description"), ("Train", "reply"), ("Evaluate", "reply")):
        answer = own.ask(name, asked(name))
        privacy = getattr(answer, part).privacy
        entries = AuditLog(own.folder / "state").entries()
        assert (entries[-1]["direction"], entries[-1]["kind"]) == ("left", f"{name}Answer")
        assert Head(privacy.audit_entries, privacy.audit_seal) == Head(len(entries) - 1, entries[-2]["seal"])
        assert entries[-2]["direction"] == "entered"
        stated.append(privacy.audit_entries)
    assert stated == [1, 3, 5]
    site = load_site(own.folder / "site.yaml")
    assert {entry["policy"] for entry in entries} == {policy_hash(site.policy)}
    assert all(entry["fedfm"] for entry in entries)


def test_the_log_has_the_hash_of_the_very_bytes_that_entered_and_left(own: Hospital) -> None:
    import hashlib  # noqa: PLC0415

    for data in (asked("Describe").SerializeToString(), b"\xff no message"):
        answer = own.service.answer("Describe", data)
        entered, left = AuditLog(own.folder / "state").entries()[-2:]
        assert entered["sha256"] == hashlib.sha256(data).hexdigest()
        assert left["sha256"] == hashlib.sha256(answer).hexdigest()


def _cut(path: Path, *, keep: int) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:keep]))
    path.with_name(f"{path.name}.next").unlink(missing_ok=True)


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_a_log_that_was_cut_is_refused_by_what_the_coordinator_heard_and_the_site_stays_online(
    own: Hospital, keep: int
) -> None:
    for name in ("Describe", "Evaluate"):
        own.ask(name, asked(name))
    told = own.ask("Describe", asked("Describe")).description.privacy
    path = own.folder / "state" / FILE
    newest = path.read_bytes()
    _cut(path, keep=keep)
    restarted = Hospital(own.folder, Service(Trainer(load_site(own.folder / "site.yaml"))))
    message = asked("Train")
    message.audit_entries, message.audit_seal = told.audit_entries, told.audit_seal
    for _ in range(6):  # refusals make the log longer; its entries are others
        assert restarted.ask("Train", message).refusal.code == "SITE-E118"
    restarted.good()  # of a coordinator that has heard nothing
    path.write_bytes(newest)
    path.with_name(f"{FILE}.next").unlink()
    again = Hospital(own.folder, Service(Trainer(load_site(own.folder / "site.yaml"))))
    assert again.ask("Train", message).HasField("reply")


def test_a_coordinator_that_says_back_what_it_heard_is_answered_whatever_it_heard_last(own: Hospital) -> None:
    heard = [Head()]
    for _ in range(3):
        privacy = own.good().description.privacy
        heard.append(Head(privacy.audit_entries, privacy.audit_seal))
    for head in heard:
        message = asked("Describe")
        message.audit_entries, message.audit_seal = head
        assert own.ask("Describe", message).HasField("description")


def test_concurrent_answers_state_heads_that_the_log_holds(hospital: Hospital) -> None:
    told: list[Head] = []

    def ask() -> None:
        privacy = hospital.good().description.privacy
        told.append(Head(privacy.audit_entries, privacy.audit_seal))

    threads = [threading.Thread(target=ask) for _ in range(MOST_AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = AuditLog(hospital.folder / "state")
    assert len(told) == MOST_AT_ONCE
    for head in told:
        log.check_not_older(head)


# What leaves when something breaks


class Leak(ValueError):
    """A fault whose text quotes a patient."""

    def __init__(self) -> None:
        super().__init__(f"could not convert {CANARY}-000001")


def _leak(*_: object, **__: object) -> None:
    raise Leak


PLACES = [
    *((warm_module, name) for name in ("study_from_json", "check_fields", "accept", "agreed_plan", "prepare")),
    (warm_module.rounds, "train"),
    *((outgoing, name) for name in ("check", "kept_back", "check_names")),
    *((calls.messages, name) for name in ("to_bytes", "_spent_to_proto")),
    (calls, "_plain"),
    (AuditLog, "entered"),
    (AuditLog, "left"),
    (AuditLog, "head"),
    (AuditLog, "check_not_older"),
    *((Chain, name) for name in ("read", "append", "holds")),
]


@pytest.mark.parametrize(("where", "what"), PLACES, ids=[f"{where.__name__}.{what}" for where, what in PLACES])
def test_a_fault_anywhere_leaves_as_a_number_and_the_next_request_is_answered(
    own: Hospital, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: Any, what: str
) -> None:
    own.good()
    own.service._trainer._warm = None
    name = "Train" if what in ("train", "check_names", "to_bytes") else "Describe"
    sent = asked(name, 3).SerializeToString()  # of the round in which a check is asked for
    with monkeypatch.context() as patch:
        patch.setattr(where, what, _leak)
        if what == "kept_back":
            patch.setattr(outgoing, "_equal", lambda part, *_: outgoing.kept_back(part, ""))
        data = own.service.answer(name, sent)
    answer = CALLS[name].answer.FromString(data)  # type: ignore[attr-defined]
    assert answer.refusal.code == "SITE-E500", answer
    assert CANARY.encode() not in data
    assert answer.refusal.text.partition("incident ")[2][:8] in caplog.text
    own.good()


def test_a_fault_in_the_refusal_itself_is_silent_towards_grpc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC would send the text of an exception; a thread that ends without an answer would leave the caller waiting."""
    path = tmp_path / "s.sock"
    server = serve(Trainer(load_site(write_hospital(tmp_path / "a"))), path)
    for fault in (Leak, lambda: SystemExit(f"{CANARY}-000001")):

        def broken(*_: object, fault: Any = fault) -> None:
            raise fault()

        with grpc.insecure_channel(f"unix:{path}") as channel, monkeypatch.context() as patch:
            patch.setattr("client_app.trainer.service._refused", broken)
            patch.setattr("client_app.trainer.service.version", broken)
            stub = TrainerStub(channel)
            for call, sent in ((stub.Train, pb.Request()), (stub.Status, pb.StatusRequest())):
                with pytest.raises(grpc.RpcError) as failed:
                    call(sent, timeout=20)
                assert CANARY not in str(failed.value)
                assert CANARY not in failed.value.details()
                assert "SITE-E500" in failed.value.details()
    server.stop(grace=None).wait()


def test_every_call_of_the_service_has_one_handler_and_no_other(own: Hospital) -> None:
    methods = {method.name for method in pb.DESCRIPTOR.services_by_name["Trainer"].methods}
    assert set(handlers(own.service)) == methods
    assert SERVICE == "fedfm.trainer.v1.Trainer"


@pytest.mark.parametrize("at", ["entered", "left", "both"])
def test_a_full_disk_is_said_and_nothing_leaves(own: Hospital, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    own.good()
    real, count = AuditLog._record, []

    def full(self: AuditLog, direction: str, *rest: Any) -> None:
        if at in (direction, "both"):
            count.append(1)
            with monkeypatch.context() as patch:
                patch.setattr("client_app.chain.os.fsync", _no_space)
                real(self, direction, *rest)
        real(self, direction, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "_record", full)
        answer = pb.TrainAnswer.FromString(own.service.answer("Train", asked("Train").SerializeToString()))
    assert answer.refusal.code == "SITE-E150"
    assert count
    assert bool(own.ledger) == (at == "left")  # the charge of what was computed stays
    AuditLog(own.folder / "state").entries()  # whole
    own.good()


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")

"""The trainer's boundary, through the service: whatever is asked, a coded answer."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client_app.trainer import trainer_pb2 as pb
from client_app.trainer.calls import CALLS
from fedfm.arrays import to_bytes
from fedfm.wire import WIRE_VERSION
from tests.integration.boundary import START, Hospital, asked, hospital_in
from tests.integration.conftest import study_json


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

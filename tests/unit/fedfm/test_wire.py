"""The messages: what is written is what is read, and what was not written that way is refused."""

import io
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from fedfm import wire, wire_records
from fedfm.errors import WireError

numbers = st.floats(min_value=0, allow_nan=False)
names = st.text(min_size=1, max_size=20)
rounds = st.integers(0, 10_000)
float32 = st_numpy.arrays(np.float32, st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
arrays = st.dictionaries(names, float32, max_size=4)
spent = st.builds(
    wire.PrivacySpent, st.sampled_from(["patient", "record", "none"]), *[numbers] * 7, *[rounds, names] * 2
)
requests = st.builds(
    wire.Request,
    run=names,
    study=names,
    round=rounds,
    layout=names,
    parameters=arrays,
    frozen=arrays,
    statistics=arrays,
    ledger_entries=rounds,
    ledger_seal=names,
    audit_entries=rounds,
    audit_seal=names,
)
descriptions = st.builds(
    wire.Description,
    site=names,
    declared_patients=st.integers(0, 2**40),
    layout=names,
    device=names,
    groups=st.lists(names, max_size=3).map(tuple),
    privacy=spent,
)
summarise_replies = st.builds(
    wire.SummariseReply,
    site=names,
    round=rounds,
    sums=st_numpy.arrays(np.float64, st.integers(0, 9)),
    sums_sd=numbers,
    seconds=numbers,
    privacy=spent,
)
train_replies = st.builds(
    wire.TrainReply,
    site=names,
    round=rounds,
    layout=names,
    update=arrays,
    declared_patients=st.integers(0, 2**40),
    steps=rounds,
    seconds=numbers,
    privacy=spent,
)
cells = st_numpy.arrays(np.float64, st.tuples(st.integers(2, 4), st.integers(2, 6)))
evaluate_replies = st.builds(
    wire.EvaluateReply,
    site=names,
    round=rounds,
    cells=cells,
    cells_sd=numbers,
    explanation=st.dictionaries(names, numbers, max_size=3),
    explanation_sd=numbers,
    seconds=numbers,
    privacy=spent,
    groups=st.dictionaries(names, cells, max_size=3),
    groups_sd=numbers,
    losses=st.dictionaries(names, numbers, max_size=2),
    losses_sd=numbers,
    audit_groups=st.dictionaries(names, cells, max_size=3),
    audit_groups_sd=numbers,
    alone=cells,
    alone_sd=numbers,
)

Write = Callable[[Any], RecordDict]
Read = Callable[[RecordDict], Any]
FORMS: dict[str, tuple[st.SearchStrategy[Any], Write, Read]] = {
    "request": (requests, wire_records.request_to_records, wire_records.request_from_records),
    "description": (descriptions, wire_records.description_to_records, wire_records.description_from_records),
    "summarise_reply": (
        summarise_replies,
        wire_records.summarise_reply_to_records,
        wire_records.summarise_reply_from_records,
    ),
    "train_reply": (train_replies, wire_records.train_reply_to_records, wire_records.train_reply_from_records),
    "evaluate_reply": (
        evaluate_replies,
        wire_records.evaluate_reply_to_records,
        wire_records.evaluate_reply_from_records,
    ),
}
forms = pytest.mark.parametrize("form", FORMS)


def crossed(records: RecordDict) -> RecordDict:
    return recorddict_from_proto(recorddict_to_proto(records))


def same(one: Any, other: Any) -> bool:
    """Equal field by field; arrays bit for bit, not-a-numbers included."""
    if isinstance(one, dict):
        return set(one) == set(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return bool(one == other)


@forms
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_messages_survive_the_network(form: str, data: st.DataObject) -> None:
    strategy, write, read = FORMS[form]
    message = data.draw(strategy)
    returned = read(crossed(write(message)))
    assert type(returned) is type(message)
    assert same(vars(message), vars(returned))


EXAMPLE = wire.TrainReply(
    "hospital-a",
    3,
    "layout",
    {"head": np.arange(6, dtype=np.float32).reshape(2, 3)},
    60,
    4,
    1.5,
    wire.PrivacySpent("patient", 1e-3, 1.0, 0.5, 0.5, 1.0, 3.0, 1.2),
)


def hostile_array(**changes: Any) -> Callable[[RecordDict], None]:
    def change(records: RecordDict) -> None:
        good = records.array_records["arrays"]["head"]
        fields = {"dtype": good.dtype, "shape": tuple(good.shape), "stype": good.stype, "data": good.data} | changes
        records["arrays"] = ArrayRecord({"head": Array(**fields)})

    return change


def with_text(**changes: Any) -> Callable[[RecordDict], None]:
    return lambda records: records.config_records["text"].update(changes)


def with_number(record: str, **changes: Any) -> Callable[[RecordDict], None]:
    return lambda records: records.metric_records[record].update(changes)


def drop(record: str, field: str | None = None) -> Callable[[RecordDict], None]:
    def change(records: RecordDict) -> None:
        if field is None:
            del records[record]
        else:
            del records[record][field]

    return change


def npy(array: np.ndarray[Any, Any], **header: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape} | header
    )
    return stream.getvalue() + array.tobytes()


SIX = np.arange(6, dtype=np.float32)
FAULTS: dict[str, tuple[Callable[[RecordDict], None], str]] = {
    "older version": (with_text(wire_version=0), "WIRE-E001"),
    "no version": (drop("text", "wire_version"), "WIRE-E001"),
    "no text": (drop("text"), "WIRE-E001"),
    "text as numbers": (lambda r: r.update({"text": MetricRecord({"wire_version": 1})}), "WIRE-E001"),
    "another kind": (with_text(kind="evaluate_reply"), "text.kind"),
    "missing record": (drop("privacy"), "privacy"),
    "missing field": (drop("numbers", "seconds"), "seconds"),
    "unexpected field": (with_number("numbers", loss=0.1), "loss"),
    "unexpected record": (lambda r: r.update({"notes": ConfigRecord({"text": "a note"})}), "notes"),
    "text for a number": (with_text(unit=3), "text.unit"),
    "float for an integer": (with_number("numbers", round=3.0), "numbers.round"),
    "integer for a float": (with_number("numbers", seconds=1), "numbers.seconds"),
    "list for a float": (with_number("privacy", train=[1.0]), "privacy.train"),
    "not a number": (with_number("privacy", train=math.nan), "privacy.train"),
    "arrays as numbers": (lambda r: r.update({"arrays": MetricRecord({"head": 1.0})}), "arrays"),
    "pickle": (hostile_array(stype="pickle"), "never pickle"),
    "object array": (hostile_array(data=npy(SIX, descr="|O"), dtype="object"), "arrays.head"),
    "float64": (hostile_array(data=npy(SIX.astype(np.float64).reshape(2, 3)), dtype="float64"), "float64"),
    "not npy": (hostile_array(data=b"hello"), "arrays.head"),
    "empty": (hostile_array(data=b""), "arrays.head"),
    "cut off": (hostile_array(data=npy(SIX)[:-1], shape=(6,)), "arrays.head"),
    "a terabyte in the header": (hostile_array(data=npy(SIX, shape=(2**38,)), shape=(2**38,)), "arrays.head"),
    "negative sizes": (hostile_array(data=npy(SIX, shape=(-2, -3)), shape=(-2, -3)), "arrays.head"),
    "another shape than said": (hostile_array(shape=(3, 2)), "arrays.head"),
    "code in the header": (
        hostile_array(data=npy(SIX).replace(b"'descr'", b"exit(7)")),
        "arrays.head",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_hostile_messages_are_refused_by_name(fault: str) -> None:
    change, named = FAULTS[fault]
    records = wire_records.train_reply_to_records(EXAMPLE)
    change(records)
    with pytest.raises(WireError, match=named):
        wire_records.train_reply_from_records(records)


@settings(max_examples=200)
@given(data=st.binary(max_size=300), text=st.text(max_size=10))
def test_arbitrary_bytes_raise_nothing_but_wire_errors(data: bytes, text: str) -> None:
    records = wire_records.train_reply_to_records(EXAMPLE)
    good = records.array_records["arrays"]["head"].data
    for body in (data, good[:20] + data, good[: len(good) // 2] + data):
        hostile_array(data=body)(records)
        with pytest.raises(WireError):
            wire_records.train_reply_from_records(records)


@forms
def test_an_empty_message_is_a_wire_error(form: str) -> None:
    with pytest.raises(WireError):
        FORMS[form][2](RecordDict())


@pytest.mark.parametrize("tables", [{}, {"cells": np.ones(3)}, {"cells": np.eye(2), "more": np.eye(2)}])
def test_evaluations_hold_one_table(tables: dict[str, Any]) -> None:
    reply = wire.EvaluateReply("a", 1, np.eye(2), 0.0, {}, 0.0, 1.0, EXAMPLE.privacy)
    records = wire_records.evaluate_reply_to_records(reply)
    records["arrays"] = ArrayRecord({name: Array(array) for name, array in tables.items()})
    with pytest.raises(WireError, match="arrays"):
        wire_records.evaluate_reply_from_records(records)


def test_arrays_in_any_memory_order_are_written_alike() -> None:
    turned = replace(EXAMPLE, update={"head": np.asfortranarray(EXAMPLE.update["head"])})
    returned = wire_records.train_reply_from_records(wire_records.train_reply_to_records(turned))
    np.testing.assert_array_equal(returned.update["head"], EXAMPLE.update["head"])
    returned.update["head"][0] = 0  # writable, and nobody else's memory

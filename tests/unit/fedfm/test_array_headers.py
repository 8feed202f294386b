"""Safetensors documents that lie: whatever the header claims, it is read as its library reads it, or refused."""

import json
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfm.array_headers import LARGEST_HEADER, places
from fedfm.arrays import from_bytes, to_bytes
from fedfm.errors import WireError

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(1, np.float32)}
WHOLE = to_bytes(ARRAYS)


def document(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def array(shape: Any, offsets: Any, dtype: Any = "F32", **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


LIES = {
    "empty": b"",
    "short": b"\x02\0\0\0",
    "no header": document(b""),
    "header beyond the end": (2**40).to_bytes(8, "little") + b"{}",
    "header of 2^63": (2**63).to_bytes(8, "little") + b"{}",
    "huge header": document(b"{}" + b" " * LARGEST_HEADER),
    "a list": document([1]),
    "a number": document(7),
    "no JSON": document(b"{'a': 1}"),
    "no UTF-8": document(b'{"\xff": 1}'),
    "deep": document(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "bytes behind": document({}, b"\0"),
    "metadata": document({"__metadata__": {"patient": "x"}}),
    "not a map": document({"a": [1]}),
    "no shape": document({"a": {"dtype": "F32", "data_offsets": [0, 0]}}),
    "one field more": document({"a": array([0], [0, 0], note="x")}),
    "long name": document({"n" * 301: array([0], [0, 0])}),
    "type is a number": document({"a": array([1], [0, 4], dtype=32)}, b"\0" * 4),
    "shape is a number": document({"a": array(1, [0, 4])}, b"\0" * 4),
    "negative shape": document({"a": array([-1], [0, 4])}, b"\0" * 4),
    "shape of floats": document({"a": array([1.0], [0, 4])}, b"\0" * 4),
    "shape of truths": document({"a": array([True], [0, 4])}, b"\0" * 4),
    "huge shape": document({"a": array([2**62], [0, 4])}, b"\0" * 4),
    "shape beyond 64 bits": document({"a": array([0, 2**63], [0, 0])}),
    "huge empty shape": document({"a": array([0, 2**62], [0, 0])}),
    "huge empty product": document({"a": array([0, 2**31, 2**31], [0, 0])}),
    "many dimensions": document({"a": array([1] * 70, [0, 4])}, b"\0" * 4),
    "one offset": document({"a": array([1], [4])}, b"\0" * 4),
    "three offsets": document({"a": array([1], [0, 4, 8])}, b"\0" * 4),
    "offsets beyond the end": document({"a": array([2], [0, 8])}, b"\0" * 4),
    "offsets backwards": document({"a": array([1], [4, 0])}, b"\0" * 4),
    "offsets overlap": document({"a": array([1], [0, 4]), "b": array([1], [0, 4])}, b"\0" * 4),
    "a hole": document({"a": array([1], [0, 4]), "b": array([1], [8, 12])}, b"\0" * 12),
    "size is not of the shape": document({"a": array([3], [0, 4])}, b"\0" * 4),
    "name given twice": document(b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},' * 2 + b'"b":1}'),
    "field given twice": document(b'{"a":{"dtype":"F32","dtype":"F32","shape":[0],"data_offsets":[0,0]}}'),
    "infinite": document(b'{"a":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,0]}}'),
}


@pytest.mark.parametrize("data", LIES.values(), ids=LIES)
def test_a_header_that_lies_is_refused(data: bytes) -> None:
    with pytest.raises(WireError, match="WIRE-E012"):
        from_bytes(data)


@pytest.mark.parametrize("dtype", ["F64", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "ZZ", "F32" * 99])
def test_another_type_is_refused_by_name(dtype: str) -> None:
    with pytest.raises(WireError, match="WIRE-E013"):
        from_bytes(document({"a": array([1], [0, 4], dtype=dtype)}, b"\0" * 4))


def test_no_word_of_the_document_is_in_the_text_but_a_short_name_and_type() -> None:
    for data in LIES.values():
        with pytest.raises(WireError) as refused:
            from_bytes(data)
        assert len(str(refused.value)) < 400
        assert "patient" not in str(refused.value)


def test_what_is_written_lies_where_the_header_says() -> None:
    assert {name: place.shape for name, place in places(WHOLE).items()} == {"a": (2, 3), "b": (1,)}
    assert from_bytes(document({"a": array([0, 3], [0, 0]), "b": array([], [0, 4])}, b"\0" * 4))["a"].shape == (0, 3)


changes = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 400), st.integers(0, 255)),
        st.tuples(st.just("cut"), st.integers(0, 400), st.integers(1, 30)),
        st.tuples(st.just("insert"), st.integers(0, 400), st.integers(0, 255)),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=400)
@given(changes=changes)
def test_changed_bytes_are_refused_or_read_as_the_library_reads_them(changes: list[tuple[str, int, int]]) -> None:
    data = bytearray(WHOLE)
    for how, at, value in changes:
        if how == "set" and at < len(data):
            data[at] = value
        elif how == "cut":
            del data[at : at + value]
        else:
            data.insert(at, value)
    try:
        found = from_bytes(bytes(data))
    except WireError:
        return
    expected = safetensors.numpy.load(bytes(data))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == np.float32
        assert found[name].tobytes() == values.tobytes()
        assert found[name].shape == values.shape
        assert found[name].flags.writeable

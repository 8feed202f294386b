"""Reading and writing Flower's records strictly: what is not in the table is not let through."""

import io
import math
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedfm.errors import WireError

Table = Mapping[str, Mapping[str, type]]
"""Record to the type of each of its fields; ``text`` is a ConfigRecord, every other one a MetricRecord."""

_Value = TypeVar("_Value")


def write(records_of: Table, fields: Mapping[str, Any], *, version: int, kind: str) -> RecordDict:
    """Write ``fields`` into the records that the table names."""
    records = RecordDict()
    for record, forms in records_of.items():
        values = {name: form(fields[name]) for name, form in forms.items()}
        if record == "text":
            records[record] = ConfigRecord({"wire_version": version, "kind": kind, **values})
        else:
            records[record] = MetricRecord(values)
    return records


def changed(records: RecordDict, *, text: Mapping[str, str], numbers: Mapping[str, int]) -> RecordDict:
    """Return a written message with other fields in its text and numbers; all else is shared, not copied."""
    made = RecordDict(dict(records))
    made["text"] = ConfigRecord({**records.config_records["text"], **text})
    made["numbers"] = MetricRecord({**records.metric_records["numbers"], **numbers})
    return made


def read(
    records_of: Table, records: RecordDict, *, version: int, kind: str, free: Collection[str] = ()
) -> dict[str, Any]:
    """Read exactly the fields of the table.

    Args:
        records_of: What must stand there.
        records: What was received; nothing about it is trusted.
        version: The version that both ends must have.
        kind: The message that is expected.
        free: Further records that must be there, and that the caller reads.

    Raises:
        WireError: Another version or kind, a missing or unexpected record or field, or a wrong type.
    """
    _check_envelope(records, version, kind)
    _check_names("records", set(records), {*records_of, *free})
    fields: dict[str, Any] = {}
    for record, forms in records_of.items():
        values = records[record]
        if not isinstance(values, ConfigRecord if record == "text" else MetricRecord):
            raise unreadable(record, type(values).__name__, "text" if record == "text" else "numbers")
        _check_names(record, set(values), {*forms, *(("wire_version", "kind") if record == "text" else ())})
        fields |= {name: checked(f"{record}.{name}", values[name], form) for name, form in forms.items()}
    return fields


def _check_envelope(records: RecordDict, version: int, kind: str) -> None:
    """Refuse another version by name, before anything else is read."""
    text = records.get("text")
    found = text if isinstance(text, ConfigRecord) else ConfigRecord()
    if found.get("wire_version") != version:
        raise WireError(
            "WIRE-E001",
            "message of another version",
            where="text.wire_version",
            found=_short(found.get("wire_version")),
            allowed=str(version),
            fix="install the same release of fedfm at the coordinator and at the site",
        )
    if found.get("kind") != kind:
        raise unreadable("text.kind", _short(found.get("kind")), kind)


def _check_names(where: str, found: set[str], allowed: set[str]) -> None:
    if found != allowed:
        difference = f"missing {sorted(allowed - found)}, unexpected {_short(sorted(found - allowed))}"
        raise unreadable(where, difference, ", ".join(sorted(allowed)))


def checked(where: str, value: object, form: type[_Value]) -> _Value:
    """Return ``value`` if it is of exactly this type, and a number where one is meant."""
    if type(value) is not form or (isinstance(value, float) and math.isnan(value)):
        raise unreadable(where, _short(value), form.__name__)
    return value


def write_numbers(numbers: Mapping[str, float]) -> MetricRecord:
    """Write floats under names of the sender's choice."""
    return MetricRecord({name: float(value) for name, value in numbers.items()})


def read_numbers(records: RecordDict, record: str) -> dict[str, float]:
    """Read floats under names of the sender's choice; raises ``WireError``."""
    values = records[record]
    if not isinstance(values, MetricRecord):
        raise unreadable(record, type(values).__name__, "numbers")
    return {name: checked(f"{record}.{_short(name)}", value, float) for name, value in values.items()}


def write_arrays(arrays: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """Write arrays as ``.npy`` bytes in C order."""
    return ArrayRecord({name: Array(np.asarray(array, order="C")) for name, array in arrays.items()})


def read_arrays(
    records: RecordDict, record: str, dtype: type[np.generic], *, dimensions: Mapping[str, int] | None = None
) -> dict[str, NDArray[Any]]:
    """Read arrays of one type; raises ``WireError``. Values may be anything, not-a-number included.

    Args:
        records: What was received.
        record: The one that holds the arrays.
        dtype: Of every array.
        dimensions: Exactly the names that must be there, with the number of dimensions of each; None: any.
    """
    arrays = records[record]
    if not isinstance(arrays, ArrayRecord):
        raise unreadable(record, type(arrays).__name__, "arrays")
    found = {name: _array(f"{record}.{_short(name)}", array, np.dtype(dtype)) for name, array in arrays.items()}
    if dimensions is not None and {name: array.ndim for name, array in found.items()} != dimensions:
        allowed = ", ".join(f"{name} of {count}" for name, count in dimensions.items())
        raise unreadable(record, f"{len(found)} arrays of other names or dimensions", f"dimensions: {allowed}")
    return found


def _array(where: str, array: Array, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Decode ``.npy`` bytes; allocates no more than was received, whatever the header claims."""
    if array.stype != "numpy.ndarray":
        raise unreadable(where, f"serialised as {_short(array.stype)}", "numpy.ndarray; never pickle")
    stream = io.BytesIO(array.data)
    try:
        np.lib.format.read_magic(stream)
        shape, is_fortran, found = np.lib.format.read_array_header_1_0(stream)
    except Exception as problem:  # numpy evaluates the header as a literal, which can fail in many ways
        raise unreadable(where, type(problem).__name__, "the bytes of one .npy array") from problem
    body = array.data[stream.tell() :]
    is_whole = min(shape, default=0) >= 0 and len(body) == math.prod(shape) * dtype.itemsize
    if found != dtype or is_fortran or shape != tuple(array.shape) or not is_whole:
        raise unreadable(where, f"{found} {_short(shape)} in {len(body)} bytes", f"{dtype}, whole, in C order")
    return np.frombuffer(body, dtype).reshape(shape).copy()


def unreadable(where: str, found: str, allowed: str) -> WireError:
    """Return the error that says where a message is not what it should be."""
    return WireError(
        "WIRE-E002",
        "unreadable message",
        where=where,
        found=found,
        allowed=allowed,
        fix="use the same release of fedfm at both ends; if it is, keep the message and report it",
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

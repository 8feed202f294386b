"""Named arrays as they travel: what they are, their fingerprint, their bytes. Free of torch."""

import hashlib
import json
import math

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from fedfm.array_headers import check_float32, places
from fedfm.errors import IncompatibleUpdate

Arrays = dict[str, NDArray[np.float32]]
"""Named trainable parameters, or their update (after - before)."""


def layout(arrays: Arrays) -> str:
    """Return the SHA-256 hex fingerprint of names and shapes.

    *Guarantees* Equal for equal names and shapes, whatever the values and the order.
    """
    listed = sorted((name, list(array.shape)) for name, array in arrays.items())
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def update_of(before: Arrays, after: Arrays) -> Arrays:
    """Return ``after - before``, name by name.

    Raises:
        IncompatibleUpdate: The two differ in a name or a shape.
    """
    check_layout(after, like=before)
    return {name: after[name] - before[name] for name in before}


def norm(arrays: Arrays) -> float:
    """Return the Euclidean norm of all entries together, summed in float64; 0 for no arrays."""
    return math.sqrt(sum(float(np.square(array, dtype=np.float64).sum()) for array in arrays.values()))


def check_layout(arrays: Arrays, *, like: Arrays) -> None:
    """Refuse arrays whose names or shapes are not those of ``like``.

    Raises:
        IncompatibleUpdate: Names the first array that differs.
    """
    missing, extra = sorted(like.keys() - arrays.keys()), sorted(arrays.keys() - like.keys())
    if missing or extra:
        raise IncompatibleUpdate(
            "WIRE-E010",
            "the parameters have other names",
            found=f"{len(missing)} missing, {len(extra)} unknown, first: {(missing + extra)[0]}",
            allowed=f"the {len(like)} names of this study's model and adapter",
            fix="use the same fedfm version, model and adapter at the coordinator and at every site",
        )
    for name, reference in like.items():
        if arrays[name].shape != reference.shape:
            raise IncompatibleUpdate(
                "WIRE-E011",
                f"the array {name} has another shape",
                found=str(arrays[name].shape),
                allowed=str(reference.shape),
                fix="use the same study settings (adapter.rank, model, labels) everywhere",
            )


def to_bytes(arrays: Arrays) -> bytes:
    """Return ``arrays`` as a safetensors document; the same arrays give the same bytes.

    Raises:
        WireError: An array is not float32.
    """
    for name, array in arrays.items():
        check_float32(name, array.dtype.name)
    return safetensors.numpy.save({name: np.array(arrays[name], order="C") for name in sorted(arrays)})


def from_bytes(data: bytes) -> Arrays:
    """Return the arrays of a safetensors document, as writable copies.

    Raises:
        WireError: The bytes are not a whole safetensors document, hold anything else, or an array is not float32.
    """
    view = memoryview(data)  # a slice of the bytes would be one more copy of them all
    return {
        name: np.frombuffer(view[place.begin : place.end], "<f4").reshape(place.shape).astype(np.float32)
        for name, place in places(data).items()
    }

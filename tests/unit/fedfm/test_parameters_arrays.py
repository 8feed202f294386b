"""Named arrays: fingerprint, arithmetic, bytes; and their way into a model and back."""

import hashlib
import json

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp
from torch import nn

from fedfm.arrays import Arrays, from_bytes, layout, norm, to_bytes, update_of
from fedfm.errors import IncompatibleUpdate, WireError
from fedfm.parameters import load_trainable, trainable

values = stnp.arrays(
    np.float32,
    stnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    elements=st.floats(-1e3, 1e3, width=32),
)
named = st.dictionaries(st.text("abc.", min_size=1, max_size=6), values, max_size=5)


@given(arrays=named)
def test_bytes_and_back_is_the_identity(arrays: Arrays) -> None:
    back = from_bytes(to_bytes(arrays))
    assert layout(back) == layout(arrays)
    assert all(np.array_equal(back[name], arrays[name]) for name in arrays)
    assert all(array.flags.writeable for array in back.values())


@given(arrays=named)
def test_layout_and_bytes_ignore_the_order(arrays: Arrays) -> None:
    turned = dict(reversed(arrays.items()))
    assert layout(turned) == layout(arrays)
    assert to_bytes(turned) == to_bytes(arrays)


def test_layout_is_the_hash_of_sorted_names_and_shapes() -> None:
    arrays = {"b": np.zeros((2, 3), np.float32), "a": np.zeros(4, np.float32)}
    expected = hashlib.sha256(json.dumps([["a", [4]], ["b", [2, 3]]]).encode()).hexdigest()
    assert layout(arrays) == expected


@pytest.mark.parametrize("change", ["name", "shape"])
def test_layout_sees_names_and_shapes(change: str) -> None:
    one = {"a": np.zeros((2, 3), np.float32)}
    other = {"a" if change == "shape" else "b": np.zeros((3, 2) if change == "shape" else (2, 3), np.float32)}
    assert layout(one) != layout(other)


@given(arrays=named)
def test_norm_is_that_of_all_entries_in_one_vector(arrays: Arrays) -> None:
    flat = np.concatenate([np.zeros(1), *(array.ravel().astype(np.float64) for array in arrays.values())])
    assert norm(arrays) == pytest.approx(np.linalg.norm(flat), rel=1e-12)


def test_norm_does_not_overflow_in_float32() -> None:
    assert norm({"a": np.full(4, 1e30, np.float32)}) == pytest.approx(2e30, rel=1e-6)


def test_update_is_after_minus_before() -> None:
    update = update_of({"a": np.array([1, 2], np.float32)}, {"a": np.array([4, 1], np.float32)})
    assert update["a"].tolist() == [3, -1]


@pytest.mark.parametrize("after", [{}, {"b": np.zeros(2, np.float32)}, {"a": np.zeros((2, 1), np.float32)}])
def test_update_of_unlike_arrays_is_refused(after: Arrays) -> None:
    with pytest.raises(IncompatibleUpdate, match=r"WIRE-E01[01]"):
        update_of({"a": np.zeros(2, np.float32)}, after)


@pytest.mark.parametrize("cut", [0, 4, 20, -1])
def test_cut_bytes_are_refused(cut: int) -> None:
    whole = to_bytes({"a": np.ones(8, np.float32)})
    with pytest.raises(WireError, match="WIRE-E012"):
        from_bytes(whole[:cut])


@given(noise=st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(noise: bytes) -> None:
    try:
        assert from_bytes(noise) == {}
    except WireError:
        return


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_other_types_are_refused_both_ways(dtype: type) -> None:
    with pytest.raises(WireError, match="WIRE-E013"):
        from_bytes(safetensors.numpy.save({"a": np.zeros(2, dtype)}))
    with pytest.raises(WireError, match="WIRE-E013"):
        to_bytes({"a": np.zeros(2, dtype)})


def test_bfloat16_is_refused() -> None:
    header = json.dumps({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    with pytest.raises(WireError):
        from_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")


@pytest.fixture
def model() -> nn.Module:
    built = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    built[0].requires_grad_(False)
    return built


def test_trainable_gives_copies_of_what_is_trained_only(model: nn.Module) -> None:
    arrays = trainable(model)
    assert {name: array.shape for name, array in arrays.items()} == {"1.weight": (1, 2), "1.bias": (1,)}
    arrays["1.bias"][:] = 9
    assert model.get_parameter("1.bias").item() != 9


def test_load_trainable_is_exact_and_leaves_the_rest(model: nn.Module) -> None:
    frozen = model.get_parameter("0.weight").clone()
    wanted = {"1.weight": np.array([[1.25, -3]], np.float32), "1.bias": np.array([7], np.float32)}
    load_trainable(model, wanted)
    assert all(np.array_equal(trainable(model)[name], wanted[name]) for name in wanted)
    assert torch.equal(model.get_parameter("0.weight"), frozen)


@pytest.mark.parametrize(
    "wrong",
    [
        {"1.weight": np.zeros((1, 2), np.float32)},
        {"1.weight": np.zeros((1, 2), np.float32), "1.bias": np.zeros((1, 1), np.float32)},
        {
            "1.weight": np.zeros((1, 2), np.float32),
            "1.bias": np.zeros(1, np.float32),
            "0.bias": np.zeros(2, np.float32),
        },
    ],
)
def test_load_trainable_refuses_and_changes_nothing(model: nn.Module, wrong: Arrays) -> None:
    before = trainable(model)
    with pytest.raises(IncompatibleUpdate):
        load_trainable(model, wrong)
    assert all(np.array_equal(trainable(model)[name], before[name]) for name in before)

"""Combiners over the updates on disk."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedfm.arrays import Arrays
from server_app.combining.received import _STRETCH, Received
from server_app.combining.rules import linear
from server_app.updates import Updates


@contextmanager
def received(updates: Mapping[str, Arrays], weights: NDArray[np.float64]) -> Iterator[Received]:
    like = next(iter(updates.values()))
    with Updates(like, Path(tempfile.gettempdir())) as kept:
        for site, update in updates.items():
            kept.append(site, update)
        yield Received({name: np.zeros_like(array) for name, array in like.items()}, {}, kept, weights)


@given(data=st.data(), sites=st.integers(1, 6))
def test_a_linear_combination_stays_between_the_sites(data: st.DataObject, sites: int) -> None:
    numbers = st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3)
    updates = {f"site-{index}": {"w": np.array(data.draw(numbers), np.float32)} for index in range(sites)}
    sizes = np.array(data.draw(st.lists(st.integers(1, 100), min_size=sites, max_size=sites)), float)
    with received(updates, sizes / sizes.sum()) as asked:
        combined = linear(asked).update["w"]
    stacked = np.stack([update["w"] for update in updates.values()]).astype(float)
    assert (combined >= stacked.min(axis=0) - 1e-9).all()
    assert (combined <= stacked.max(axis=0) + 1e-9).all()


def test_one_site_is_the_identity() -> None:
    update = {"w": np.array([0.1, -3.0], np.float32)}
    with received({"a": update}, np.ones(1)) as asked:
        combined = linear(asked)
    np.testing.assert_array_equal(combined.update["w"], update["w"])


def test_a_sum_does_not_depend_on_who_answered_first() -> None:
    chance = np.random.default_rng(1)
    updates = {f"site-{index}": {"w": chance.normal(size=9).astype(np.float32)} for index in range(7)}
    weights = chance.dirichlet(np.ones(7))
    found = []
    for order in (sorted(updates), sorted(updates, reverse=True)):
        with received({site: updates[site] for site in order}, weights) as asked:
            found.append((linear(asked).update["w"].tobytes(), asked.updates.gram().tobytes()))
    assert found[0] == found[1]


def test_a_sum_is_of_float64_over_every_stretch_and_leaves_out_who_counts_nothing() -> None:
    size = 2 * _STRETCH + 3
    updates = {f"site-{index}": {"w": np.full(size, 1 + index * 1e-7, np.float32)} for index in range(3)}
    updates["site-1"]["w"][:] = np.inf
    weights = np.array([0.1, 0.0, 0.9])
    with received(updates, weights) as asked:
        combined = linear(asked).update["w"]
    exact = 0.1 * float(updates["site-0"]["w"][0]) + 0.9 * float(updates["site-2"]["w"][0])
    assert combined.tolist() == [exact] * size


def test_a_file_that_became_shorter_is_an_error() -> None:
    with received({"a": {"w": np.ones(3, np.float32)}}, np.ones(1)) as asked:
        linear(asked)
        asked.updates._file.truncate(8)
        with pytest.raises(OSError, match="whole"):
            linear(asked)


def test_updates_are_read_in_order_of_names_whatever_their_arrival() -> None:
    chance = np.random.default_rng(1)
    updates = {
        name: {"w": chance.normal(size=(2, 3)).astype(np.float32), "b": np.ones(1, np.float32)} for name in "cab"
    }
    with received(updates, np.ones(3)) as asked:
        kept = asked.updates
        assert kept.sites == ["a", "b", "c"]
        rows = list(kept.rows())
        for site, row in zip(kept.sites, rows, strict=True):
            assert kept.named(row.astype(float))["w"].tolist() == updates[site]["w"].astype(float).tolist()
        np.testing.assert_allclose(kept.gram(), np.stack(rows).astype(float) @ np.stack(rows).astype(float).T)
        assert np.concatenate([block for _, block in kept.columns()], axis=1).tolist() == np.stack(rows).tolist()


def test_the_file_of_a_round_is_gone_when_it_is_over(tmp_path: Path) -> None:
    with Updates({"w": np.zeros(2, np.float32)}, tmp_path) as updates:
        updates.append("a", {"w": np.ones(2, np.float32)})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="closed"):
        list(updates.rows())

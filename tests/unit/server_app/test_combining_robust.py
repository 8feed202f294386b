"""Robust combiners against numpy, scipy and explicit distances, and against planted outliers."""

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from fedfm.errors import EngineError
from server_app import updates as updates_module
from server_app.combining.received import Combined, Received
from server_app.combining.robust import krum, median, multi_krum, norm_clipping, trimmed_mean
from server_app.updates import Updates
from tests.unit.server_app.federation import Hospital, federate

Matrix = NDArray[np.float32]

COUNTING_EACH_ONCE: dict[str, Callable[[Received], Combined]] = {
    "trimmed_mean": lambda asked: trimmed_mean(asked, share=0.2),
    "median": median,
    "krum": lambda asked: krum(asked, faulty=1),
    "multi_krum": lambda asked: multi_krum(asked, faulty=1, chosen=3),
}
every_combiner = pytest.mark.parametrize("combine", COUNTING_EACH_ONCE.values(), ids=COUNTING_EACH_ONCE.keys())


@contextmanager
def received(rows: Matrix, weights: NDArray[np.float64] | None = None) -> Iterator[Received]:
    sites = len(rows)
    with Updates({"w": rows[0]}, Path(tempfile.gettempdir())) as kept:
        for index, row in enumerate(rows):
            kept.append(f"site-{index:03d}", {"w": row})
        yield Received({}, {}, kept, np.full(sites, 1 / sites) if weights is None else weights)


def combined(rows: Matrix, combine: Callable[[Received], Combined]) -> NDArray[np.float64]:
    with received(rows) as asked:
        return np.array(combine(asked).update["w"])


@st.composite
def whole_numbers(draw: st.DrawFn, *, fewest: int = 5, most: int = 12) -> Matrix:
    """float32[S, 3] without rounding in sums and shifts."""
    numbers = st.lists(st.integers(-1000, 1000), min_size=3, max_size=3)
    return np.array(draw(st.lists(numbers, min_size=fewest, max_size=most)), np.float32)


@given(rows=whole_numbers(fewest=1))
def test_the_median_is_that_of_numpy(rows: Matrix) -> None:
    np.testing.assert_array_equal(combined(rows, median), np.median(rows.astype(float), axis=0))


@given(rows=whole_numbers(), share=st.sampled_from([0.2, 0.25, 0.3, 0.45]))
def test_the_trimmed_mean_is_that_of_scipy(rows: Matrix, share: float) -> None:
    found = combined(rows, lambda asked: trimmed_mean(asked, share=share))
    np.testing.assert_allclose(found, stats.trim_mean(rows.astype(float), share), rtol=1e-12, atol=1e-12)


def test_a_share_of_whole_sites_is_not_lost_to_rounding() -> None:
    rows = np.arange(100, dtype=np.float32)[:, None] ** 2
    assert int(0.29 * 100) == 28
    found = combined(rows, lambda asked: trimmed_mean(asked, share=0.29))
    assert found[0] == pytest.approx(np.mean(np.arange(29, 71) ** 2))


@pytest.mark.parametrize(("sites", "left"), [(3, [1]), (4, [1, 2]), (6, [2, 3])])
def test_a_share_of_nearly_a_half_leaves_the_middle(sites: int, left: list[int]) -> None:
    rows = np.arange(sites, dtype=np.float32)[:, None] ** 2
    found = combined(rows, lambda asked: trimmed_mean(asked, share=0.4999999999))
    assert found[0] == pytest.approx(np.mean(np.square(left)))
    with pytest.raises(EngineError, match="ROUND-E029"):
        combined(rows[:2], lambda asked: trimmed_mean(asked, share=0.4999999999))


def test_blocks_of_columns_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(1).normal(size=(7, 50)).astype(np.float32)
    whole = {name: combined(rows, combine) for name, combine in COUNTING_EACH_ONCE.items()}
    monkeypatch.setattr(updates_module, "_BLOCK", 4 * 7 * 3)
    for name, combine in COUNTING_EACH_ONCE.items():
        np.testing.assert_array_equal(combined(rows, combine), whole[name])


def explicit_scores(rows: Matrix, faulty: int) -> list[float]:
    """Blanchard et al. 2017, from distances between vectors, without any inner product."""
    sites, scores = len(rows), []
    for one in range(sites):
        others = [rows[other].astype(float) for other in range(sites) if other != one]
        distances = sorted(float(((rows[one] - other) ** 2).sum()) for other in others)
        scores.append(math.fsum(distances[: sites - faulty - 2]))
    return scores


@given(rows=whole_numbers(), data=st.data())
def test_krum_is_that_of_explicit_distances(rows: Matrix, data: st.DataObject) -> None:
    sites = len(rows)
    faulty = data.draw(st.integers(1, (sites - 3) // 2))
    chosen = data.draw(st.integers(1, sites - faulty))
    order = np.argsort(explicit_scores(rows, faulty), kind="stable")
    with received(rows) as asked:
        one, several = krum(asked, faulty=faulty), multi_krum(asked, faulty=faulty, chosen=chosen)
    np.testing.assert_array_equal(one.update["w"], rows[order[0]])
    assert one.coefficients is not None
    assert one.coefficients.tolist() == [float(site == order[0]) for site in range(sites)]
    np.testing.assert_allclose(several.update["w"], rows[order[:chosen]].astype(float).mean(axis=0), atol=1e-9)


def test_krum_tells_updates_apart_that_differ_in_the_last_digits() -> None:
    """Their distances are 1e-8 of their squares: in float32 inner products they would be lost."""
    rows = np.full((6, 1000), 1.0, np.float32)
    rows += np.array([0, 1, 2, 4, 8, 64], np.float32)[:, None] * np.float32(2**-20)
    with received(rows) as asked:
        found = krum(asked, faulty=1)
    assert found.coefficients is not None
    assert np.argmax(found.coefficients) == np.argmin(explicit_scores(rows, 1))


@every_combiner
@given(rows=whole_numbers(), shift=st.integers(-1000, 1000))
def test_a_shift_of_all_updates_shifts_the_result(combine: Any, rows: Matrix, shift: int) -> None:
    moved = combined((rows + shift).astype(np.float32), combine)
    np.testing.assert_allclose(moved, combined(rows, combine) + shift, atol=1e-9)


@every_combiner
@given(rows=whole_numbers(), data=st.data())
def test_names_and_weights_of_sites_make_no_difference(combine: Any, rows: Matrix, data: st.DataObject) -> None:
    scores = explicit_scores(rows, 1)
    if len(set(scores)) < len(scores):  # the first name wins among equals
        rows = rows + np.random.default_rng(1).normal(scale=0.1, size=rows.shape).astype(np.float32)
    permuted = rows[data.draw(st.permutations(range(len(rows))))]
    with received(permuted, np.random.default_rng(1).dirichlet(np.ones(len(rows)))) as asked:
        np.testing.assert_allclose(combine(asked).update["w"], combined(rows, combine), atol=1e-9)


@given(rows=whole_numbers(), data=st.data())
def test_planted_outliers_do_not_leave_the_range_of_the_others(rows: Matrix, data: st.DataObject) -> None:
    sites = len(rows)
    faulty = data.draw(st.integers(1, (sites - 3) // 2))
    places = data.draw(st.permutations(range(sites)))[:faulty]
    signs = st.lists(st.sampled_from([-1e6, 1e6]), min_size=3, max_size=3)
    attacked, sound = rows.copy(), np.delete(rows, places, axis=0)
    for place in places:
        attacked[place] = data.draw(signs)
    chosen = data.draw(st.integers(1, sites - faulty))
    for name, combine in {
        "median": median,
        "trimmed_mean": lambda asked: trimmed_mean(asked, share=faulty / sites),
        "krum": lambda asked: krum(asked, faulty=faulty),
        "multi_krum": lambda asked: multi_krum(asked, faulty=faulty, chosen=chosen),
    }.items():
        found = combined(attacked, combine)
        assert (found >= sound.min(axis=0) - 1e-6).all(), name
        assert (found <= sound.max(axis=0) + 1e-6).all(), name


@given(rows=whole_numbers(), data=st.data(), factor=st.floats(0.1, 5))
def test_an_outlier_counts_for_no_more_than_the_clipped_norm(rows: Matrix, data: st.DataObject, factor: float) -> None:
    sites = len(rows)
    faulty = data.draw(st.integers(1, (sites - 1) // 2))
    attacked = rows.copy()
    attacked[:faulty] = 1e6
    largest = np.linalg.norm(rows[faulty:].astype(float), axis=1).max()
    found = combined(attacked, lambda asked: norm_clipping(asked, factor=factor))
    assert np.linalg.norm(found) <= (1 + 1e-9) * factor * largest


def test_norm_clipping_of_known_norms() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 10.0], [0.0, 0.0], [60.0, 80.0], [0.0, -1.0]], np.float32)
    weights = np.array([0.1, 0.2, 0.1, 0.5, 0.1])
    with received(rows, weights) as asked:
        found = norm_clipping(asked, factor=1.0)  # norms 5, 10, 0, 100, 1: the median is 5
        unclipped = norm_clipping(asked, factor=20.0)
    assert found.coefficients is not None
    np.testing.assert_allclose(found.coefficients, [0.1, 0.1, 0.1, 0.025, 0.1])
    np.testing.assert_allclose(found.update["w"], [0.3 + 1.5, 0.4 + 1.0 + 2.0 - 0.1])
    assert unclipped.coefficients is not None
    assert unclipped.coefficients.tolist() == weights.tolist()


def test_updates_of_nothing_are_combined_to_nothing() -> None:
    for combine in (*COUNTING_EACH_ONCE.values(), lambda asked: norm_clipping(asked, factor=1.5)):
        assert combined(np.zeros((5, 2), np.float32), combine).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("sites", "combine"),
    [
        (4, lambda asked: krum(asked, faulty=1)),
        (6, lambda asked: krum(asked, faulty=2)),
        (5, lambda asked: multi_krum(asked, faulty=1, chosen=5)),
        (4, lambda asked: trimmed_mean(asked, share=0.2)),
    ],
)
def test_too_few_updates_end_the_round_and_no_mean_is_taken_instead(sites: int, combine: Any) -> None:
    rows = np.random.default_rng(1).normal(size=(sites + 1, 2)).astype(np.float32)
    with pytest.raises(EngineError, match="ROUND-E029"):
        combined(rows[:-1], combine)
    assert combined(rows, combine).shape == (2,)


def test_one_wrong_hospital_of_five_does_not_move_the_model(tmp_path: Path) -> None:
    hospitals = {f"site-{index}": Hospital(shift=1.0 + index / 4) for index in range(4)} | {
        "wrong": Hospital(shift=-90)
    }
    moved = {}
    for combiner in ("norm_clipping", *COUNTING_EACH_ONCE):
        folder = tmp_path / combiner
        folder.mkdir()
        study = ["rounds=1", "weighting=uniform", "min_sites=5", f"combining={combiner}"]
        outcome = federate(hospitals, folder, *study)
        assert outcome.error is None
        assert outcome.parameters is not None
        moved[combiner] = float(outcome.parameters["head.bias"][0] - 1)
    assert {name: 1 <= shift <= 1.75 for name, shift in moved.items() if name != "norm_clipping"} == dict.fromkeys(
        COUNTING_EACH_ONCE, True
    )
    assert moved["norm_clipping"] == pytest.approx((1 + 1.25 + 1.5 + 1.75 - 1.5 * 1.5) / 5, rel=1e-6)


def test_a_round_of_too_few_ends_the_run(tmp_path: Path) -> None:
    study = ["rounds=1", "weighting=uniform", "min_sites=5", "combining=krum"]
    outcome = federate({f"site-{index}": Hospital() for index in range(4)}, tmp_path, *study)
    assert "ROUND-E020" in str(outcome.error)
    assert outcome.parameters is None

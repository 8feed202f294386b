"""Gaps between groups against fairlearn, their symmetries, and how often their intervals hold the truth."""

import itertools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import fairlearn.metrics as fairlearn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from fedfm.metrics.gaps import GAPS, Gap, Tables, gaps, local_gaps

NAMES = ("demographic_parity", "equal_opportunity", "equalized_odds")


def groups(*, count: tuple[int, int] = (2, 5), least: int = 0, most: int = 40) -> st.SearchStrategy[dict[str, Any]]:
    cells = st.lists(st.integers(least, most), min_size=4, max_size=4)
    tables = st.lists(cells, min_size=count[0], max_size=count[1])
    return tables.map(lambda made: {f"g{n}": np.array(t, dtype=float).reshape(2, 2) for n, t in enumerate(made)})


def patients(tables: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Label, predicted class and group of each."""
    rows = [
        (label, called, group)
        for group, table in tables.items()
        for label, called in itertools.product((0, 1), (0, 1))
        for _ in range(int(table[label, called]))
    ]
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def oracle(tables: Mapping[str, Any], name: str) -> tuple[float, float]:
    """Difference and ratio, as fairlearn has them."""
    labels, called, group = patients(tables)
    if name == "accuracy":
        frame = fairlearn.MetricFrame(metrics=accuracy_score, y_true=labels, y_pred=called, sensitive_features=group)
        return float(frame.difference()), float(frame.ratio())
    both: list[Callable[..., float]] = [getattr(fairlearn, f"{name}_{kind}") for kind in ("difference", "ratio")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a division that fairlearn answers with 0 or not-a-number
        difference, ratio = (float(figure(labels, called, sensitive_features=group)) for figure in both)
    return difference, ratio


def told(gap: Gap | None) -> Gap:
    assert gap is not None
    return gap


@settings(max_examples=30, deadline=None)
@given(tables=groups())
def test_every_gap_is_fairlearns_wherever_that_is_defined(tables: dict[str, Any]) -> None:
    present = {group: table for group, table in tables.items() if table.any()}
    found = gaps(Tables(tables, 0.0), positive=1, least=1)
    if len(present) < 2:
        assert not any(found.values())
        return
    has_all = {label: all(table[label].any() for table in present.values()) for label in (0, 1)}
    is_defined = {"demographic_parity": True, "accuracy": True, "equal_opportunity": has_all[1]}
    is_defined["equalized_odds"] = has_all[0] and has_all[1]
    for name in GAPS:
        if not is_defined[name]:
            assert found[name] is None
            continue
        difference, ratio = oracle(present, name)
        gap = told(found[name])
        assert gap.difference.value == pytest.approx(difference, abs=1e-12)
        if gap.ratio is not None:
            assert gap.ratio.value == pytest.approx(ratio, abs=1e-12)
        else:  # the largest of one rate is 0: fairlearn has not-a-number, or the other rate's
            assert not any(t[:, 1].any() for t in present.values()) or name in (
                "equal_opportunity",
                "equalized_odds",
                "accuracy",
            )


def test_what_fairlearn_calls_zero_is_not_told() -> None:
    """A group without positives has a true positive rate of 0 there, and so the largest gap that can be."""
    tables = {"a": np.array([[20.0, 5.0], [4.0, 16.0]]), "b": np.array([[30.0, 5.0], [0.0, 0.0]])}
    assert oracle(tables, "equal_opportunity")[0] == pytest.approx(0.8)
    found = gaps(Tables(tables, 0.0), positive=1)
    assert found["equal_opportunity"] is found["equalized_odds"] is None
    assert found["demographic_parity"] is not None


@pytest.mark.parametrize(("positives", "sd", "is_told"), [(10, 0, False), (11, 0, True), (20, 4, False), (40, 3, True)])
def test_a_group_of_few_patients_leaves_the_gap_unknown(positives: int, sd: float, is_told: bool) -> None:
    few = np.array([[50.0, 50.0], [positives / 2, positives / 2]])
    found = gaps(Tables({"a": np.full((2, 2), 99.0), "b": few}, sd), positive=1)
    assert (found["equal_opportunity"] is not None) == is_told
    assert found["demographic_parity"] is not None


def test_a_group_that_certainly_has_no_patient_is_no_group() -> None:
    two = {"a": np.full((2, 2), 30.0), "b": np.array([[40.0, 20.0], [10.0, 50.0]])}
    empty = {**two, "c": np.zeros((2, 2))}
    assert gaps(Tables(empty, 0.0), positive=1) == gaps(Tables(two, 0.0), positive=1)
    assert not any(gaps(Tables(empty, 1.0), positive=1).values())  # with noise it may have some
    assert not any(gaps(Tables({"a": two["a"]}, 0.0), positive=1).values())
    assert not any(gaps(Tables({}, 0.0), positive=1).values())


@settings(max_examples=15, deadline=None)
@given(tables=groups(least=6), sd=st.sampled_from([0.0, 1.0]), seed=st.integers(0, 99))
def test_names_and_order_of_groups_and_of_classes_do_not_matter(tables: dict[str, Any], sd: float, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(list(tables))
    found = gaps(Tables(tables, sd), positive=1)
    renamed = gaps(Tables({f"x{group}": tables[group] for group in order}, sd), positive=1)
    turned = gaps(Tables({group: table[::-1, ::-1] for group, table in tables.items()}, sd), positive=0)
    for name in GAPS:
        for other in (renamed[name], turned[name]):
            assert (found[name] is None) == (other is None)
            if other is not None:
                ends = vars(told(found[name]).difference).values()
                assert list(vars(other.difference).values()) == pytest.approx(list(ends), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(one=groups(count=(1, 1), least=11), size=st.integers(2, 5), sd=st.sampled_from([0.0, 0.5]))
def test_equal_groups_have_no_gap(one: dict[str, Any], size: int, sd: float) -> None:
    (table,) = one.values()
    for gap in gaps(Tables({str(n): table for n in range(size)}, sd), positive=1).values():
        assert told(gap).difference.value == told(gap).difference.low == 0
        assert told(gap).difference.high > 0
        ratio = told(gap).ratio
        assert ratio is not None
        assert ratio.value == ratio.high == pytest.approx(1)


@settings(max_examples=60, deadline=None)
@given(tables=groups(most=60), sd=st.floats(0, 4))
def test_values_are_inside_their_intervals_and_noise_widens_them(tables: dict[str, Any], sd: float) -> None:
    found, plain = (gaps(Tables(tables, noise), positive=1) for noise in (sd, 0.0))
    for name in GAPS:
        gap = found[name]
        for figure in (gap.difference, gap.ratio) if gap else ():
            if figure is not None:
                assert 0 <= figure.low <= figure.value + 1e-12
                assert figure.value - 1e-12 <= figure.high <= 1
        if gap is not None and plain[name] is not None and len(tables) == 2:
            assert gap.difference.low <= told(plain[name]).difference.low + 1e-9
            assert gap.difference.high >= told(plain[name]).difference.high - 1e-9


def test_two_groups_without_noise_have_newcombes_interval() -> None:
    """56 of 70 against 48 of 80: 0.0524 to 0.3339, in Newcombe 1998, table II, example (a), method 10."""
    tables = {"a": np.array([[20.0, 20.0], [14.0, 56.0]]), "b": np.array([[20.0, 20.0], [32.0, 48.0]])}
    difference = told(gaps(Tables(tables, 0.0), positive=1)["equal_opportunity"]).difference
    assert difference.value == pytest.approx(0.2)
    assert (difference.low, difference.high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))


def test_more_classes_have_a_gap_in_accuracy_only() -> None:
    tables = {"a": np.diag([20.0, 20.0, 20.0]), "b": np.full((3, 3), 10.0)}
    found = gaps(Tables(tables, 0.0), positive=2)
    assert told(found.pop("accuracy")).difference.value == pytest.approx(2 / 3)
    assert not any(found.values())


def test_the_worst_and_the_mean_site_are_told_with_the_sites_that_know() -> None:
    apart = {"a": np.array([[80.0, 20.0], [20.0, 80.0]]), "b": np.array([[80.0, 20.0], [60.0, 40.0]])}
    even = {"a": apart["a"], "b": apart["a"]}
    few = {"a": np.full((2, 2), 2.0), "b": apart["a"]}
    sites = {"s1": Tables(even, 0.0), "s2": Tables(apart, 0.0), "s3": Tables(few, 0.0)}
    found = local_gaps(sites, positive=1)["equal_opportunity"]
    assert found is not None
    assert (found.site, found.sites) == ("s2", 2)
    assert found.worst.value == pytest.approx(0.4)
    assert found.mean.value == pytest.approx(0.2)
    alone = told(gaps(sites["s2"], positive=1)["equal_opportunity"]).difference
    assert found.worst.low < alone.low  # it was picked among three
    assert found.worst.high == alone.high
    assert local_gaps({"s3": sites["s3"]}, positive=1)["equal_opportunity"] is None


def test_many_groups_and_many_sites_take_no_longer_than_they_may() -> None:
    """A site may list a thousand groups of an intersection; pairs of them are half a million."""
    chance = np.random.default_rng(1)
    tables = Tables({str(n): chance.poisson(30, (2, 2)).astype(float) for n in range(300)}, 0.0)
    found = told(gaps(tables, positive=1)["accuracy"]).difference
    assert found.low == 0
    assert found.high > found.value > 0.2


RATES = [[0.8, 0.8], [0.8, 0.6], [0.95, 0.95], [0.8] * 4, [0.8, 0.8, 0.8, 0.6], [0.9, 0.7, 0.8], [0.8] * 8]


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 2.0])
@pytest.mark.parametrize("size", [60, 300])
@pytest.mark.parametrize("shares", RATES, ids=str)
def test_intervals_hold_the_truth_as_often_as_they_say(shares: list[float], size: int, noise: float) -> None:
    """Where there is no gap at all, too, though the largest minus the smallest estimate never says so."""
    chance = np.random.default_rng(2)
    expected = [size / 2 * np.array([[0.8, 0.2], [1 - share, share]]) for share in shares]
    difference, ratio = max(shares) - min(shares), min(shares) / max(shares)
    held = {"difference": 0, "ratio": 0, "equalized_odds": 0}
    runs = told_runs = 0
    while told_runs < 300 and runs < 600:
        runs += 1
        tables = {str(n): chance.poisson(t) + chance.normal(0, noise, (2, 2)) for n, t in enumerate(expected)}
        found = gaps(Tables(tables, noise), positive=1)
        gap, odds = found["equal_opportunity"], found["equalized_odds"]
        if gap is None or odds is None or gap.ratio is None:
            continue
        told_runs += 1
        held["difference"] += gap.difference.low <= difference + 1e-12 and gap.difference.high >= difference
        held["ratio"] += gap.ratio.low <= ratio and gap.ratio.high >= ratio - 1e-12
        held["equalized_odds"] += odds.difference.low <= difference + 1e-12 and odds.difference.high >= difference
    assert told_runs >= 100
    for name, count in held.items():
        assert count / told_runs >= 0.915, (name, count / told_runs)

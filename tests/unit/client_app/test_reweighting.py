"""Weights of examples by group: their closed forms, their mean and cap, and what one patient moves."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_app.data.groups import declared_groups
from client_app.reweighting import (
    group_dro,
    group_label_table,
    group_loss_table,
    groups_to_weigh,
    kamiran_calders,
    weights_of,
)
from fedfm.config.site import Group
from fedfm.errors import ConfigError
from fedfm.examples import Example
from fedfm.metrics.counts import LOSS_CAP

GROUPS = ["female", "male"]
rows = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 1), st.sampled_from([*GROUPS, "other"])), min_size=1, max_size=30
)


def examples_of(found: list[tuple[int, int, str]]) -> list[Example]:
    return [Example(str(patient), label, text="t", groups={"sex": group}) for patient, label, group in found]


@given(found=rows, patient=st.integers(0, 6))
def test_one_patient_moves_the_table_by_at_most_one(found: list[tuple[int, int, str]], patient: int) -> None:
    whole = group_label_table(examples_of(found), "sex", GROUPS, 2)
    without = group_label_table(examples_of([row for row in found if row[0] != patient]), "sex", GROUPS, 2)
    assert np.linalg.norm(whole - without) <= 1 + 1e-9


@given(table=st.lists(st.lists(st.floats(1, 500), min_size=2, max_size=2), min_size=2, max_size=4))
def test_weighted_group_and_label_are_independent(table: list[list[float]]) -> None:
    counts = np.array(table)
    weighted = counts * kamiran_calders(counts, cap=1e9)
    rates = weighted[:, 1] / weighted.sum(axis=1)
    assert rates == pytest.approx(np.full(len(rates), rates[0]))
    assert weighted.sum() == pytest.approx(counts.sum())


def test_weights_are_capped_and_noise_below_zero_does_no_harm() -> None:
    weights = kamiran_calders(np.array([[1000.0, -40.0], [1.0, 1000.0]]), cap=3.0)
    assert np.isfinite(weights).all()
    assert (weights > 0).all()
    assert weights.max() <= 3.0


def test_examples_of_no_listed_group_weigh_one() -> None:
    table = kamiran_calders(np.array([[30.0, 10.0], [10.0, 30.0]]), cap=5.0)
    weights = weights_of(examples_of([(1, 0, "female"), (2, 1, "other")]), "sex", GROUPS, table)
    assert weights.tolist() == pytest.approx([table[0, 0], 1.0])


def test_groups_come_from_the_site_file_and_never_from_the_data() -> None:
    assert declared_groups(Group("sex", values={"1": "male", "2": "female", "m": "male"})) == ["female", "male"]
    assert declared_groups(Group("age", bands=[40, 65])) == ["40 to under 65", "65 and over", "under 40"]
    assert declared_groups(Group("race")) == []
    with pytest.raises(ConfigError, match="SITE-E026"):
        groups_to_weigh(Group("race"))


tables = st.lists(st.lists(st.floats(-50, 500), min_size=2, max_size=2), min_size=2, max_size=4)


@given(table=tables, cap=st.floats(1, 20))
def test_weights_have_mean_one_and_keep_the_cap_at_once(table: list[list[float]], cap: float) -> None:
    """So that a reweighted sum of losses is as long as the plain one, under the table that is known."""
    counts = np.maximum(np.array(table), 1.0)
    weights = kamiran_calders(np.array(table), cap=cap)
    assert weights.max() <= cap * (1 + 1e-9)
    assert weights.min() >= 0
    assert (weights * counts).sum() == pytest.approx(counts.sum())


losses_by_group = st.lists(
    st.tuples(
        st.integers(0, 5), st.sampled_from([*GROUPS, "other"]), st.sampled_from([0.0, 1.0, 1e9, math.inf, math.nan])
    ),
    min_size=1,
    max_size=20,
)


def loss_table(rows: list[tuple[int, str, float]]) -> np.ndarray:
    of = np.array([group for _, group, _ in rows])
    losses = np.array([loss for *_, loss in rows])
    return group_loss_table(losses, [str(p) for p, *_ in rows], {group: of == group for group in GROUPS})


@given(rows=losses_by_group, patient=st.integers(0, 5))
def test_one_patient_moves_the_losses_of_all_groups_by_at_most_root_two(
    rows: list[tuple[int, str, float]], patient: int
) -> None:
    rest = [row for row in rows if row[0] != patient]
    moved = loss_table(rows) - (loss_table(rest) if rest else 0.0)
    assert np.linalg.norm(moved) <= math.sqrt(2) + 1e-9


def test_losses_by_group_reach_their_sensitivity_and_divide_a_patient_over_its_groups() -> None:
    np.testing.assert_allclose(loss_table([(1, "male", math.nan)]), [[0, 0], [1, 1]])
    table = loss_table([(1, "female", LOSS_CAP), (1, "male", 0.0), (2, "other", 1.0)])
    np.testing.assert_allclose(table, [[0.25, 0.5], [0.25, 0.5]])  # a mean of half the cap, in two halves


def exact(losses: list[float], patients: list[float]) -> np.ndarray:
    """A table of groups with these mean losses, in nats."""
    return np.stack([np.array(losses) / LOSS_CAP * np.array(patients), patients], axis=1)


def test_group_dro_is_the_exponentiated_gradient_on_the_losses() -> None:
    """By hand: q begins at the shares (.75, .25) and goes to q exp(step * loss) in each round."""
    rounds = [exact([0.2, 1.0], [75, 25]), exact([0.3, 0.9], [75, 25])]
    q = np.array([0.75, 0.25])
    for losses in ([0.2, 1.0], [0.3, 0.9]):
        q = q * np.exp(0.5 * np.array(losses))
        q /= q.sum()
    np.testing.assert_allclose(group_dro(rounds, noise=0.0, step=0.5, cap=10), q / [0.75, 0.25])


def test_group_dro_without_a_step_or_a_difference_weighs_all_the_same() -> None:
    uneven = [exact([0.2, 1.0], [60, 40])]
    assert group_dro(uneven, noise=0.0, step=0.0, cap=4).tolist() == [1.0, 1.0]
    np.testing.assert_allclose(group_dro([exact([0.7, 0.7], [60, 40])], noise=0.0, step=1.0, cap=4), [1, 1])


@given(
    losses=st.lists(st.floats(0, 2), min_size=2, max_size=5),
    data=st.data(),
    step=st.floats(0, 10),
    cap=st.floats(1, 50),
)
def test_group_dro_keeps_mean_and_cap_and_order(
    losses: list[float], data: st.DataObject, step: float, cap: float
) -> None:
    patients = data.draw(st.lists(st.floats(1, 500), min_size=len(losses), max_size=len(losses)))
    weights = group_dro([exact(losses, patients)] * 300, noise=0.0, step=step, cap=cap)
    assert np.isfinite(weights).all()
    assert weights.max() <= cap * (1 + 1e-9)
    assert (weights * patients).sum() == pytest.approx(sum(patients))
    assert (np.diff(weights[np.argsort(losses)]) >= -1e-9).all()  # more loss, no less weight


def test_a_group_whose_count_may_be_noise_alone_has_the_loss_of_all() -> None:
    table = exact([0.5, 0.5, 2.0], [50, 50, 3])
    small = group_dro([table], noise=2.0, step=1.0, cap=10)
    np.testing.assert_allclose(small[0], small[1])
    assert small[2] < 1.1  # the pooled loss is a little above the others'
    assert group_dro([table], noise=0.5, step=1.0, cap=10)[2] > 2
    assert group_dro([table] * 4, noise=2.0, step=1.0, cap=10)[2] > 2  # four rounds tell the count twice as well

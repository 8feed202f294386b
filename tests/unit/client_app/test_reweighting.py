"""Kamiran-Calders weights make group and label independent, and one patient moves the table by at most 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_app.data.groups import declared_groups
from client_app.reweighting import group_label_table, groups_to_weigh, kamiran_calders, weights_of
from fedfm.config.site import Group
from fedfm.errors import ConfigError
from fedfm.examples import Example

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
    assert weights.max() / weights.min() <= 3.0 / 0.25


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

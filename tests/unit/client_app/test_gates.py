"""Each gate on figures whose answer is known: passes, fails, cannot be judged; and how often it is wrong."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from client_app import gates
from client_app.gates import LEAST, Gate

Floats = NDArray[np.float64]


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def around(mean: float, *, documents: int = 40, sd: float = 0.1) -> Floats:
    """Numbers of exactly this mean."""
    drawn = np.random.default_rng(documents).normal(size=documents) * sd
    found: Floats = drawn - drawn.mean() + mean
    return found


def constant(value: float, documents: int = 40) -> Floats:
    return np.full(documents, value)


def gain(of: Floats) -> Gate:
    return gates.faithfulness({"comprehensiveness": of, "random_order": np.zeros_like(of)}, rng())


def complete(of: Floats) -> Gate:
    return gates.completeness({"completeness_error": of}, rng())


def regressed(of: Floats) -> Gate:
    return gates.regression(np.zeros_like(of), -of, rng())


CASES = [
    (gain(around(0.1)), True),
    (gain(around(0.02)), False),  # half a standard error and more beyond nothing is not certain
    (gain(around(-0.1)), False),
    (complete(constant(0.15)), True),
    (complete(around(0.16)), False),
    (regressed(around(-0.02)), True),
    (regressed(around(-0.05)), True),  # it may be less
    (regressed(around(-0.2)), False),
    (gates.randomisation("head", constant(0.29), gates.HEAD_MOST, rng()), True),
    (gates.randomisation("head", constant(0.6), gates.HEAD_MOST, rng()), False),
    (gates.randomisation("all", constant(0.31), gates.ALL_MOST, rng()), False),
    (gates.shortcut("tag", constant(0.15), constant(0.1), rng()), True),
    (gates.shortcut("tag", constant(0.16), constant(0.1), rng()), False),
    (gates.swap("sex", np.arange(40) < 1.0, rng()), True),  # one of 40 may be chance
    (gates.swap("sex", np.arange(40) < 8.0, rng()), False),
    (gates.utility(constant(0.6), around(0.64), rng()), True),
    (gates.utility(constant(0.6), around(0.8), rng()), False),
    (gates.utility(constant(0.6), constant(0.1), rng()), True),
]


@pytest.mark.parametrize(("gate", "passed"), CASES, ids=lambda of: getattr(of, "name", str(of)))
def test_each_gate_passes_and_fails_where_it_must(gate: Gate, passed: bool) -> None:
    assert gate.passed is passed
    assert gate.estimate is not None
    assert gate.estimate.low <= gate.estimate.value <= gate.estimate.high
    assert gate.reason


def test_few_documents_are_not_judged() -> None:
    few = np.ones(LEAST - 1)
    judged = [
        gain(few),
        complete(few),
        regressed(few),
        gates.randomisation("head", few, gates.HEAD_MOST, rng()),
        gates.shortcut("tag", few, few, rng()),
        gates.swap("sex", few, rng()),
        gates.utility(few, few, rng()),
        gates.groups("sex", np.ones(30), ["f"] * 20 + ["m"] * 10, ["f", "m"], rng()),
    ]
    assert {(gate.passed, gate.estimate) for gate in judged} == {(None, None)}
    assert gates.shortcut("tag", np.zeros(40), np.zeros(40), rng()).passed is None  # words that nobody has written
    assert gain(np.ones(LEAST)).passed is True


def test_a_shortcut_in_one_document_is_chance_and_in_many_is_found() -> None:
    share, mass = constant(0.0), constant(0.0)
    share[0], mass[0] = 0.05, 0.9
    assert gates.shortcut("tag", mass, share, rng()).passed is True
    share[:20], mass[:20] = 0.05, 0.4
    found = gates.shortcut("tag", mass, share, rng())
    assert found.passed is False
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(8.0)


def test_groups_are_compared_two_by_two_and_unlisted_ones_are_left_out() -> None:
    of = ["a"] * 30 + ["b"] * 30 + ["c"] * 30
    gains = np.concatenate([around(0.3, documents=30), around(0.3, documents=30), around(0.0, documents=30)])
    assert gates.groups("sex", gains, of, ["a", "b", "c"], rng()).passed is False
    assert gates.groups("sex", gains, of, ["a", "b"], rng()).passed is True
    assert gates.groups("sex", gains, of, ["a"], rng()).passed is None


@pytest.mark.parametrize(("norm", "passed"), [(1.0, True), (1.18, True), (1.5, False), (0.5, False), (math.nan, False)])
def test_an_update_is_held_against_the_sites_own_earlier_ones(norm: float, passed: bool) -> None:
    earlier = [1.0, 1.05, 0.95, 1.02, 0.98, 1.06, 0.94]
    assert gates.update(norm, earlier).passed is passed
    assert gates.update(math.inf, []).passed is False
    assert gates.update(1.0, earlier[: gates.LEAST_NORMS - 1]).passed is None


def test_reasons_that_do_not_exist_pass_one_time_in_forty() -> None:
    """The lower end of a 95 % interval; percentiles of few documents are a little short."""
    generator = np.random.default_rng(0)
    passed = [gain(generator.normal(size=30) * 0.1).passed for _ in range(400)]
    assert sum(map(bool, passed)) / len(passed) < 0.06


def test_pairing_sees_what_two_groups_of_documents_would_not() -> None:
    """Documents differ far more than models; the same documents are compared."""
    before = around(0.3, sd=0.3)
    assert gates.regression(before - 0.1 + around(0.0, sd=0.02), before, rng()).passed is False


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.floats(-1, 1), min_size=0, max_size=40))
def test_whatever_the_figures_nothing_is_left_undefined(values: list[float]) -> None:
    of = np.array(values, dtype=np.float64)
    judged = [gain(of), gates.shortcut("tag", abs(of), abs(of), rng()), gates.swap("sex", abs(of), rng())]
    judged += [gates.groups("sex", of, ["a", "b"] * 20, ["a", "b"], rng())] if len(of) == 40 else []
    for gate in judged:
        ends = [] if gate.estimate is None else [gate.estimate.low, gate.estimate.value, gate.estimate.high]
        assert np.isfinite([gate.limit, *ends]).all()
        assert (gate.passed is None) == (gate.estimate is None)

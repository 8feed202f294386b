"""Each gate on figures whose answer is known: passes, fails, cannot be judged; and how often it is wrong."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from client_app.reasons import gates
from client_app.reasons.gates import LEAST, Gate
from fedfm.explanations import HEAD_MOST

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


def leaning(mass: Floats, rise: Floats) -> Gate:
    return gates.shortcut("tag", mass, np.full_like(mass, 0.1), rise=rise, rng=rng())


def exchanged(flips: int, rise: Floats) -> Gate:
    return gates.swap("sex", (np.arange(len(rise)) < flips).astype(float), rise=rise, rng=rng())


CASES = [
    (gain(around(0.1)), True),
    (gain(around(0.02)), False),  # half a standard error and more beyond nothing is not certain
    (gain(around(-0.1)), False),
    (complete(constant(0.15)), True),
    (complete(around(0.16)), False),
    (regressed(around(-0.02)), True),
    (regressed(around(-0.05)), True),  # it may be less
    (regressed(around(-0.2)), False),
    (gates.randomisation("head", constant(0.29), HEAD_MOST, rng()), True),
    (gates.randomisation("head", constant(0.6), HEAD_MOST, rng()), False),
    (gates.randomisation("all", constant(0.31), gates.ALL_MOST, rng()), False),
    (leaning(constant(0.15), around(0.05)), True),
    (leaning(constant(0.16), around(0.05)), False),
    (leaning(constant(0.16), around(0.02)), True),  # it may not rise
    (leaning(constant(0.16), around(-0.05)), True),
    (exchanged(1, around(0.2)), True),  # one of 40 may be chance
    (exchanged(8, around(0.2)), False),
    (exchanged(8, around(0.06)), True),  # it may rise by less
    (exchanged(8, around(-0.2)), True),
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
        gates.randomisation("head", few, HEAD_MOST, rng()),
        leaning(few, few),
        exchanged(5, few),
        gates.utility(few, few, rng()),
        gates.groups("sex", np.ones(30), ["f"] * 20 + ["m"] * 10, ["f", "m"], rng()),
    ]
    assert {(gate.passed, gate.estimate) for gate in judged} == {(None, None)}
    nobody = gates.shortcut("tag", np.zeros(40), np.zeros(40), rise=np.zeros(40), rng=rng())
    assert nobody.passed is None  # words that nobody has written
    assert gain(np.ones(LEAST)).passed is True


def test_a_shortcut_in_one_document_is_chance_and_in_many_is_found() -> None:
    share, mass = constant(0.0), constant(0.0)
    share[0], mass[0] = 0.05, 0.9
    assert gates.shortcut("tag", mass, share, rise=mass, rng=rng()).passed is True
    share[:20], mass[:20] = 0.05, 0.4
    found = gates.shortcut("tag", mass, share, rise=mass, rng=rng())
    assert found.passed is False
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(0.2)  # of the rise, from nothing


@pytest.mark.parametrize("leans", [True, False])
@pytest.mark.parametrize("rises", [True, False])
def test_each_of_four_cases_is_said_and_only_one_fails(leans: bool, rises: bool) -> None:
    """A leaning that another hospital has taught is said, and is not this one's fault."""
    rise = around(0.3 if rises else -0.1)
    judged = [leaning(constant(0.4 if leans else 0.1), rise), exchanged(20 if leans else 0, rise)]
    for gate in judged:
        assert gate.passed is not (leans and rises)
        assert ("the received model" in gate.reason) is (leans and not rises)
        assert ("does not add to that" in gate.reason) is (leans and not rises)
        assert ("and training here adds to that" in gate.reason) is (leans and rises)
        assert gate.estimate is not None
        assert gate.estimate.value == pytest.approx(0.3 if rises else -0.1)
    assert len({gate.reason for gate in judged}) == 2


def test_a_rise_is_seen_document_by_document() -> None:
    """Documents differ far more in how they lean than the two models do."""
    before = np.random.default_rng(8).uniform(0.2, 0.8, 40)
    mass = before + 0.02 + around(0.0, sd=0.01)
    assert leaning(mass, mass - before).passed is False
    shuffled = before[np.random.default_rng(9).permutation(40)]
    assert leaning(mass, mass - shuffled).passed is True  # not paired, it is lost between the documents


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
    judged = [
        gain(of),
        gates.shortcut("tag", abs(of), abs(of), rise=of, rng=rng()),
        gates.swap("sex", abs(of), rise=of, rng=rng()),
    ]
    judged += [gates.groups("sex", of, ["a", "b"] * 20, ["a", "b"], rng())] if len(of) == 40 else []
    for gate in judged:
        ends = [] if gate.estimate is None else [gate.estimate.low, gate.estimate.value, gate.estimate.high]
        assert np.isfinite([gate.limit, *ends]).all()
        assert (gate.passed is None) == (gate.estimate is None)

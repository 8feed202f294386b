"""Gates of lists over sites: closed cases, how often they are wrong, and what Holm and pairing do."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedfm.explanations import SHIFT_RISE_MOST
from server_app.reasons import leaning_gates

Figures = NDArray[np.float64]
DOCUMENTS = 60


def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def around(mean: float, sd: float = 0.05, seed: int = 0) -> Figures:
    drawn = np.random.default_rng(seed).normal(0, sd, DOCUMENTS)
    found: Figures = drawn - drawn.mean() + mean
    return found


def figures(mass: Figures, shift: Figures) -> dict[str, Figures]:
    share = np.full(DOCUMENTS, 0.1)
    of = {"shortcut_mass:tag": mass, "shortcut_share:tag": share, "swap_shift:tag": shift}
    return of | {"swap_flip:tag": np.zeros(DOCUMENTS), "comprehensiveness": mass}


def verdicts(trained: dict[str, dict[str, Figures]], received: dict[str, Figures]) -> dict[tuple[str, str], Any]:
    found = leaning_gates.of_sites(trained, received, rng())
    for gate in found:
        assert gate.estimate is None or gate.estimate.low <= gate.estimate.value <= gate.estimate.high
    return {(gate.gate, gate.subject): gate.passed for gate in found}


def test_only_who_adds_for_certain_is_named() -> None:
    """What all are sent leans on the list already: 4 times its share, and answers move by 0.3."""
    received = figures(around(0.4), around(0.3))
    trained = {
        "keeps": received,
        "falls": figures(received["shortcut_mass:tag"] - 0.2, received["swap_shift:tag"] - 0.2),
        "little": figures(received["shortcut_mass:tag"] + around(0, seed=1), received["swap_shift:tag"] + 0.14),
        "adds": figures(received["shortcut_mass:tag"] + 0.1, received["swap_shift:tag"] + around(0.3, seed=2)),
    }
    assert verdicts(trained, received) == {
        (gate, site): site != "adds" for gate in ("shortcut:tag", "swap:tag") for site in trained
    }
    (worst,) = [gate for gate in leaning_gates.of_sites(trained, received, rng()) if gate.passed is False][:1]
    assert (worst.subject, worst.limit) == ("adds", 0.0)
    assert worst.reason == "words of the list decide more than their number says, and its training adds to that"
    assert worst.estimate is not None
    assert worst.estimate.value == pytest.approx(0.1)


def test_a_rise_to_less_than_the_words_number_says_is_no_shortcut() -> None:
    received = figures(np.full(DOCUMENTS, 0.02), np.zeros(DOCUMENTS))
    for mass, passed in ((0.14, True), (0.15, True), (0.16, False)):
        trained = {"a": figures(np.full(DOCUMENTS, mass), np.zeros(DOCUMENTS))}
        assert verdicts(trained, received)["shortcut:tag", "a"] is passed


def test_a_list_whose_words_stand_nowhere_is_not_judged_and_without_lists_there_is_no_gate() -> None:
    nothing = np.zeros(DOCUMENTS)
    absent = figures(nothing, nothing) | {"shortcut_share:tag": nothing}
    assert verdicts({"a": absent}, absent) == {("shortcut:tag", "a"): None, ("swap:tag", "a"): True}
    assert leaning_gates.of_sites({"a": {"comprehensiveness": nothing}}, {}, rng()) == []


def test_sites_that_do_nothing_are_seldom_blamed_however_many_they_are() -> None:
    """Eight sites at the very limit: one false alarm in 40 of all together, a little more for percentiles."""
    chance, blamed = np.random.default_rng(6), 0
    for run in range(120):
        of = {f"s{n}": SHIFT_RISE_MOST + chance.normal(0, 0.1, DOCUMENTS) for n in range(8)}
        blamed += any(gate.passed is False for gate in leaning_gates.swaps("tag", of, np.random.default_rng(run)))
    assert blamed / 120 < 0.08


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.floats(-1, 1), min_size=1, max_size=30), sites=st.integers(1, 4))
def test_nothing_is_left_undefined_and_no_order_of_sites_matters(values: list[float], sites: int) -> None:
    of = {f"s{n}": np.roll(np.array(values), n) for n in range(sites)}
    masses = {site: abs(rise) for site, rise in of.items()}
    share = np.full(len(values), 0.1)
    found = leaning_gates.swaps("x", of, rng())
    found += leaning_gates.shortcuts("x", of, masses=masses, share=share, rng=rng())
    for gate in found:
        assert gate.estimate is not None
        assert np.isfinite([gate.limit, gate.estimate.low, gate.estimate.high]).all()
        if gate.passed is False:
            assert gate.estimate.low > gate.limit

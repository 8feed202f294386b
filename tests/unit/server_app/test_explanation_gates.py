"""Limits on reasons: how often they speak where nothing has happened, and how soon where something has."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfm.metrics.performance import Estimate
from server_app.reasons import explanation_gates as gates

Figures = gates.Figures
DOCUMENTS, ROUNDS, WARM_UP = 32, 20, 4


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def seen(number: int, *, level: float, breached: tuple[str, ...] = (), spread: float = 0.0) -> gates.Seen:
    figures = level + spread * rng(number).normal(size=DOCUMENTS)
    return gates.Seen(number, {"comprehensiveness": figures, "sufficiency": -figures}, frozenset(breached))


class Run:
    """A global model's rounds as the coordinator sees them, each document with a level of its own."""

    def __init__(self, seed: int, *, of_document: float, of_round: float, at: Callable[[int], float]) -> None:
        chance = rng(seed)
        levels = chance.normal(0, 0.2, DOCUMENTS)
        self.lost: list[int] = []
        history: list[gates.Seen] = []
        for number in range(WARM_UP + 1, ROUNDS + 1):
            now = {}
            for figure, sign in (("comprehensiveness", 1), ("sufficiency", -1)):
                moved = at(number) + chance.normal(0, of_round) + chance.normal(0, of_document, DOCUMENTS)
                now[figure] = np.clip(sign * (levels + moved), -1, 1)
            judged = [gates.regression(figure, of, history, chance) for figure, of in now.items()]
            breached = frozenset(gate.gate.partition(":")[2] for gate in judged if gate.passed is False)
            if history and breached & history[-1].breached:
                self.lost.append(number)
            history.append(gates.Seen(number, now, breached))


NOISE = {"still": (0.05, 0.0), "usual": (0.1, 0.02), "rough": (0.15, 0.04)}
"""Deviation of a document's figure, and of all documents' together, from round to round."""


def false_alarms(noise: str, runs: int) -> int:
    of_document, of_round = NOISE[noise]
    return sum(
        bool(Run(seed, of_document=of_document, of_round=of_round, at=lambda _: 0.35).lost) for seed in range(runs)
    )


# measured: 0, 1 and 9 of 200 runs of 20 rounds
@pytest.mark.slow
@pytest.mark.parametrize(("noise", "most"), [("still", 0), ("usual", 4), ("rough", 16)])
def test_runs_in_which_nothing_happens_are_hardly_ever_marked(noise: str, most: int) -> None:
    assert false_alarms(noise, 200) <= most


def test_a_few_runs_in_which_nothing_happens_are_not_marked() -> None:
    assert false_alarms("usual", 15) == 0


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("first", [6, 12, 18])
def test_a_collapse_is_found_within_two_rounds_and_stays_found(noise: str, first: int) -> None:
    of_document, of_round = NOISE[noise]
    for seed in range(5):
        run = Run(seed, of_document=of_document, of_round=of_round, at=lambda number: 0.35 if number < first else 0.05)
        assert min(number for number in run.lost if number > first) == first + 1
        assert set(range(first + 1, ROUNDS + 1)) <= set(run.lost)


def test_one_bad_round_is_forgiven() -> None:
    run = Run(1, of_document=0.1, of_round=0.02, at=lambda number: 0.05 if number == 10 else 0.35)
    assert not run.lost


def test_a_slow_loss_is_found() -> None:
    for seed in range(5):
        run = Run(seed, of_document=0.1, of_round=0.0, at=lambda number: 0.8 - 0.05 * min(number, 14))
        assert run.lost
        assert run.lost[0] <= 14


def test_a_round_is_held_against_the_best_of_the_last_that_did_not_fall_behind() -> None:
    history = [seen(5, level=0.9), seen(6, level=0.3), seen(7, level=0.4), seen(8, level=0.35)]
    gate = gates.regression("comprehensiveness", np.full(DOCUMENTS, 0.38), history, rng())
    assert gate.passed
    assert "round 7" in gate.reason  # round 5 is too long ago
    history += [seen(9, level=0.1, breached=("comprehensiveness",))]
    fallen = gates.regression("comprehensiveness", np.full(DOCUMENTS, 0.1), history, rng())
    assert fallen.passed is None or "round 7" in fallen.reason
    assert fallen.estimate == Estimate(pytest.approx(0.3), pytest.approx(0.3), pytest.approx(0.3))
    assert gates.regression("sufficiency", np.zeros(DOCUMENTS), [], rng()).passed is None
    risen = gates.regression("sufficiency", np.full(DOCUMENTS, 0.2), [seen(7, level=0.0)], rng())
    assert risen.passed is False
    assert gates.regression("sufficiency", np.full(DOCUMENTS, -0.2), [seen(7, level=0.0)], rng()).passed


@given(st.integers(0, 1000), st.floats(-1, 1))
@settings(max_examples=30, deadline=None)
def test_random_credits_do_not_pass_and_clear_ones_do(seed: int, level: float) -> None:
    chance = rng(seed)
    random = level + chance.normal(0, 0.1, DOCUMENTS)
    same = gates.faithfulness(random, random, chance)
    assert (same.passed, same.estimate) == (False, Estimate(0.0, 0.0, 0.0))
    assert gates.faithfulness(random + 0.2, random, chance).passed
    assert gates.faithfulness(random - 0.2, random, chance).passed is False


def test_a_site_whose_credits_are_worse_than_random_is_named_and_no_other() -> None:
    chance = rng(3)
    noise = lambda: chance.normal(0, 0.1, DOCUMENTS)  # noqa: E731
    figures = {f"site-{n}": (0.1 + noise(), noise()) for n in range(9)} | {"bad": (noise() - 0.3, noise())}
    found = {gate.subject: gate for gate in gates.faithfulness_of_sites(figures, chance)}
    assert [site for site, gate in found.items() if not gate.passed] == ["bad"]
    nothing = gates.faithfulness_of_sites({"a": (np.zeros(20), np.zeros(20))}, chance)
    assert nothing[0].passed is False  # a model that ignores its input


def test_sites_that_credit_nothing_clear_are_hardly_ever_named() -> None:
    named = 0
    for seed in range(100):
        chance = rng(seed)
        figures = {f"{n}": (chance.normal(0, 0.1, DOCUMENTS), chance.normal(0, 0.1, DOCUMENTS)) for n in range(10)}
        named += any(gate.passed is False for gate in gates.faithfulness_of_sites(figures, chance))
    assert named <= 10  # 5 of 100 are the share that Holm allows


def test_drift_needs_earlier_rounds_and_speaks_where_it_is_unusual() -> None:
    usual = [0.1, 0.12, 0.09, 0.11, 0.1]
    assert gates.drift(0.9, usual[:4]).passed is None
    assert gates.drift(None, usual).passed is None
    gate = gates.drift(0.9, usual)
    assert gate.passed is False
    assert gate.limit == pytest.approx(np.mean(usual) + 3 * np.std(usual, ddof=1) * math.sqrt(1.2))
    assert gates.drift(0.12, usual).passed
    assert gates.drift(0.04, [0.0] * 5).passed  # quiet rounds make no news of a small one
    assert gates.drift(0.06, [0.0] * 5).passed is False


def overlaps(values: list[float], spread: float) -> dict[str, Figures]:
    return {f"{n}": np.array([value, *(value + spread * rng(n).normal(size=100))]) for n, value in enumerate(values)}


def test_a_site_that_credits_other_terms_is_named() -> None:
    gate = gates.outliers(overlaps([0.9, 0.88, 0.91, 0.9, 0.3], 0.02))
    assert [one.passed for one in gate] == [True, True, True, True, False]
    assert gates.outliers(overlaps([0.9, 0.88, 0.91, 0.3], 0.02))[3].passed is None  # of four nobody can say
    uncertain = gates.outliers(overlaps([0.9, 0.88, 0.91, 0.9, 0.7], 0.2))
    assert uncertain[4].passed  # below the fence, but not for certain
    assert all(one.passed for one in gates.outliers(overlaps([0.5] * 6, 0.0)))
    assert all(0 <= one.estimate.low <= one.estimate.high <= 1 for one in uncertain if one.estimate)


def test_sites_that_are_alike_are_hardly_ever_named() -> None:
    """Tukey's fence alone would name one of five in about every sixth of these runs."""
    named, beyond = 0, 0
    for seed in range(200):
        values = (0.8 + 0.05 * rng(seed).normal(size=5)).tolist()
        judged = gates.outliers(overlaps(values, 0.05))
        named += any(gate.passed is False for gate in judged)
        beyond += any(gate.estimate.value < gate.limit for gate in judged if gate.estimate)
    assert named <= 10 < beyond


def test_sites_that_are_told_by_their_reasons() -> None:
    assert gates.predictability(None, is_private=False).passed is None
    assert gates.predictability(Estimate(0.9, 0.8, 0.95), is_private=False).passed is False
    assert gates.predictability(Estimate(0.75, 0.65, 0.85), is_private=False).passed


@pytest.mark.parametrize("found", [Estimate(0.9, 0.8, 0.95), Estimate(0.75, 0.65, 0.85)])
def test_noise_tells_sites_apart_so_that_private_ones_are_not_judged_by_it(found: Estimate) -> None:
    gate = gates.predictability(found, is_private=True)
    assert (gate.passed, gate.estimate) == (None, found)
    assert "noise" in gate.reason
    assert "too few" in gates.predictability(None, is_private=True).reason


def test_one_kind_of_input_is_not_judged_and_a_collapse_to_one_is_found() -> None:
    ones = np.ones(DOCUMENTS)
    assert [gate.passed for gate in gates.modality({"text": ones}, rng())] == [None]
    assert [gate.passed for gate in gates.modality({"text": 0.99 * ones, "image": 0.01 * ones}, rng())] == [False]
    assert [gate.passed for gate in gates.modality({"text": 0.6 * ones, "image": 0.4 * ones}, rng())] == [True]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_between_one_and_as_many_times_the_chance(chances: list[float]) -> None:
    found = gates.adjusted(chances)
    assert all(p <= q <= min(1.0, len(chances) * p) + 1e-12 for p, q in zip(chances, found, strict=True))
    order = np.argsort(chances, kind="stable")
    assert (np.diff(np.array(found)[order]) >= 0).all()


def test_holm_by_hand() -> None:
    assert gates.adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

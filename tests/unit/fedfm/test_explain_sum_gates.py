"""Gates of noised sums: they fail for certain or not at all, noise included."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedfm.explain import sum_gates
from fedfm.metrics.performance import mean_of

SOUND = {
    "comprehensiveness": 0.3,
    "random_order": 0.1,
    "completeness_error": 0.02,
    "mass_rise:tag": 0.0,
    "swap_rise:sex": 0.05,
    "randomised_head": 0.2,
}


def sums(documents: float, **means: float) -> dict[str, float]:
    """Return the sums of a sound model, but for some means; ``a__b`` is ``a:b``."""
    told = SOUND | {name.replace("__", ":"): mean for name, mean in means.items()}
    return {name: mean * documents for name, mean in told.items()} | {"documents": documents}


BROKEN: list[tuple[str, dict[str, float]]] = [
    ("faithfulness", {"comprehensiveness": -0.1, "random_order": 0.2}),
    ("completeness", {"completeness_error": 0.4}),
    ("randomisation", {"randomised_head": 0.935}),
    ("shortcut:tag", {"mass_rise__tag": 0.2}),
    ("swap:sex", {"swap_rise__sex": 0.3}),
]


@pytest.mark.parametrize(("gate", "means"), BROKEN, ids=lambda of: of if isinstance(of, str) else "")
def test_each_gate_fails_where_all_of_its_interval_is_beyond(gate: str, means: dict[str, float]) -> None:
    assert sum_gates.failed(sums(500), sd=0.0) == ()
    assert sum_gates.failed(sums(500, **means), sd=0.0) == (gate,)
    assert sum_gates.failed(sums(500, **means), sd=5.0) == (gate,)
    assert sum_gates.failed(sums(500, **means), sd=400.0) == ()  # the noise may have made it
    assert sum_gates.failed(sums(10, **means), sd=0.0) == ()
    assert sum_gates.failed(sums(500, **means), sd=250.0) == ()  # not certain to be eleven documents


def test_answers_may_move_a_little_more_than_before_and_words_may_not_gain() -> None:
    """Of so many documents that a twentieth is told from nothing."""
    assert sum_gates.failed(sums(100_000, swap_rise__sex=0.15), sd=5.0) == ()
    assert sum_gates.failed(sums(100_000, swap_rise__sex=0.17), sd=5.0) == ("swap:sex",)
    assert sum_gates.failed(sums(100_000, mass_rise__tag=0.02), sd=5.0) == ("shortcut:tag",)
    assert sum_gates.failed(sums(100_000, mass_rise__tag=-0.5, swap_rise__sex=-0.5), sd=5.0) == ()


def test_what_was_withheld_has_not_failed() -> None:
    assert sum_gates.failed({}, sd=0.0) == ()


@given(
    documents=st.floats(12, 2000),
    mean=st.floats(-1, 1),
    sd=st.floats(0, 5),
)
def test_one_mean_has_the_interval_that_the_coordinator_gives_it(documents: float, mean: float, sd: float) -> None:
    told = {"comprehensiveness": mean * documents, "documents": documents}
    found = sum_gates.combined(told, {"comprehensiveness": 1.0}, sd=sd)
    expected = mean_of(mean * documents, documents, sd=sd, low=-1.0, high=1.0)
    if documents - 1.96 * sd < 11:
        assert found is None
        return
    assert found is not None
    assert expected is not None
    assert found.value == pytest.approx(expected.value)
    ends = (max(found.low, -1.0), min(found.high, 1.0))  # the coordinator cuts it to the range
    assert ends == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says() -> None:
    """Both figures of a document hang together, as they do, and noise is added to three sums."""
    generator, true, hits = np.random.default_rng(5), 0.2, 0
    for _ in range(300):
        base = generator.uniform(-0.4, 0.4, size=60)
        credited, random = base + true + generator.normal(size=60) * 0.1, base
        told: Any = {"comprehensiveness": credited.sum(), "random_order": random.sum(), "documents": 60.0}
        noisy = {name: value + generator.normal() * 3 for name, value in told.items()}
        found = sum_gates.combined(noisy, {"comprehensiveness": 1.0, "random_order": -1.0}, sd=3.0)
        assert found is not None
        hits += found.low <= true <= found.high
    assert hits / 300 > 0.95


def test_a_sound_model_is_seldom_blamed() -> None:
    """One whose rises and correlation are at their limits: at most one time in twenty for each."""
    generator, blamed = np.random.default_rng(1), 0
    for _ in range(300):
        rise = generator.uniform(-1, 1, size=200)
        told: Any = sums(200, mass_rise__tag=rise.mean(), swap_rise__sex=rise.mean() + 0.15, randomised_head=0.6)
        noisy = {name: value + generator.normal() * 4 for name, value in told.items()}
        blamed += len(sum_gates.failed(noisy, sd=4.0))
    assert blamed / 300 < 0.05

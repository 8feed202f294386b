"""Spread over sites and gain over training alone: closed forms, symmetries, and how often intervals hold the truth."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedfm.metrics.between_sites import Spread, spread
from fedfm.metrics.gains import Counted, Tally, gains, tally
from fedfm.metrics.performance import Estimate, performance, share_of


def estimates(values: Any, half: float = 0.05) -> dict[str, Estimate]:
    return {f"s{n}": Estimate(v, v - half, v + half) for n, v in enumerate(values)}


def compared(values: Any, *, is_loss: bool = True, half: float = 0.05, most: float = 2.0) -> Spread:
    found = spread(estimates(values, half), is_loss=is_loss, most=most)
    assert found is not None
    return found


@given(st.lists(st.floats(0.2, 1.9), min_size=2, max_size=12))
def test_the_figures_are_those_of_their_definitions(losses: list[float]) -> None:
    found, values = compared(losses, half=0.001), np.array(losses)
    count = len(values)
    assert found.worst.value == values.max()
    assert found.best.value == values.min()
    assert losses[int(found.worst_site[1:])] == values.max()
    assert losses[int(found.best_site[1:])] == values.min()
    assert found.mean.value == pytest.approx(values.mean())
    assert found.range.value == pytest.approx(np.ptp(values))
    assert found.shortfall.value == pytest.approx(values.max() - values.mean())
    assert found.sd.value == pytest.approx(values.std(), abs=1e-12)
    assert found.jain is not None
    assert found.gini is not None
    assert found.jain.value == pytest.approx(values.sum() ** 2 / (count * (values**2).sum()))
    apart = np.abs(values[:, None] - values).sum()
    assert found.gini.value == pytest.approx(apart / (2 * count**2 * values.mean()), abs=1e-12)


@given(st.lists(st.floats(0.05, 0.95), min_size=2, max_size=8), st.floats(0.001, 0.3))
def test_accuracy_is_judged_by_the_error(values: list[float], half: float) -> None:
    found = compared(values, is_loss=False, half=half, most=1.0)
    errors = compared([1 - value for value in values], is_loss=True, half=half, most=1.0)
    assert found.worst.value == pytest.approx(min(values))
    assert found.best.value == pytest.approx(max(values))
    for name in ("shortfall", "range", "sd", "jain", "gini"):
        mine, other = getattr(found, name), getattr(errors, name)
        assert (mine is None) == (other is None)
        if mine is not None:
            assert list(vars(mine).values()) == pytest.approx(list(vars(other).values()), abs=1e-9)
    assert found.worst.low == pytest.approx(1 - errors.worst.high)
    for name in ("worst", "best", "mean"):
        figure = getattr(found, name)
        assert 0 <= figure.low <= figure.value <= figure.high <= 1


def test_jain_and_gini_at_their_ends() -> None:
    """All bear the same: 1 and 0; one of K bears all: 1 / K and 1 - 1 / K."""
    even, one = compared([0.5] * 4, half=1e-9), compared([1.0, 0.0, 0.0, 0.0], half=1e-9)
    assert even.jain is not None
    assert even.gini is not None
    assert one.jain is not None
    assert one.gini is not None
    assert even.jain.value == 1
    assert even.gini.value == even.range.value == even.sd.value == 0
    assert one.jain.value == pytest.approx(1 / 4)
    assert one.gini.value == pytest.approx(3 / 4)
    unknown = compared([0.02, 0.03], half=0.2)
    assert unknown.jain is unknown.gini is None  # the mean may be 0


def test_of_accuracies_jain_would_say_nothing() -> None:
    """The figures at the head of the module."""
    found = compared([0.95, 0.75], is_loss=False, half=1e-6, most=1.0)
    assert found.jain is not None
    assert found.jain.value == pytest.approx(0.69, abs=0.005)
    of_accuracy = (0.95 + 0.75) ** 2 / (2 * (0.95**2 + 0.75**2))
    assert of_accuracy == pytest.approx(0.986, abs=0.0005)


def test_one_site_cannot_be_compared() -> None:
    assert spread(estimates([0.5]), is_loss=True, most=2.0) is None
    assert spread({}, is_loss=True, most=2.0) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "truth", [[0.8] * 6, [0.9, 0.8, 0.7], [0.85, 0.85, 0.6, 0.85], [0.8] * 20, [0.9, 0.5]], ids=str
)
@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_intervals_of_the_spread_hold_the_truth_at_least_as_often_as_they_say(truth: list[float], noise: float) -> None:
    chance, patients, runs = np.random.default_rng(4), 150, 400
    exact = spread(estimates(truth, 1e-9), is_loss=False, most=1.0)
    assert exact is not None
    names = ("worst", "best", "mean", "shortfall", "range", "sd", "jain", "gini")
    held = dict.fromkeys(names, 0)
    for _ in range(runs):
        figures = {}
        for n, share in enumerate(truth):
            right = chance.binomial(patients, share)
            cells = np.array([[right, 0.0], [patients - right, 0.0]]) + chance.normal(0, noise, (2, 2))
            figures[f"s{n}"] = share_of(cells, np.array([[1.0, 0], [0, 1]]), np.ones((2, 2)), cells_sd=noise)
        found = spread({name: one for name, one in figures.items() if one}, is_loss=False, most=1.0)
        assert found is not None
        for name in names:
            figure = getattr(found, name)
            held[name] += figure is None or figure.low <= getattr(exact, name).value + 1e-6 <= figure.high + 2e-6
    for name, count in held.items():
        assert count / runs >= 0.93, (name, count / runs)


def pair(n: int, both: float, only: float, other: float, chance: Any) -> tuple[Counted, Counted]:
    """Two models on the same n patients: both are right, only the first, only the second, neither."""
    drawn = chance.multinomial(n, [both, only, other, 1 - both - only - other])
    right = drawn[0] + drawn[1], drawn[0] + drawn[2]
    return tuple(Counted(np.array([[k / 2, (n - k) / 2], [(n - k) / 2, k / 2]]), 0.0) for k in right)  # type: ignore[return-value]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("both", "only", "other"),
    [(0.7, 0.1, 0.05), (0.8, 0.0, 0.0), (0.5, 0.25, 0.2), (0.3, 0.35, 0.3), (0.6, 0.2, 0.0)],
)
@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_the_interval_of_a_gain_holds_the_truth_whatever_the_correlation(
    both: float, only: float, other: float, noise: float
) -> None:
    """Also where the two models disagree as often as they can."""
    chance, held = np.random.default_rng(5), 0
    for _ in range(1000):
        federated, alone = (
            Counted(one.cells + chance.normal(0, noise, (2, 2)), noise) for one in pair(120, both, only, other, chance)
        )
        gain = gains(federated, alone, positive=1)["accuracy"]
        assert gain is not None
        held += gain.low <= only - other <= gain.high
    assert held / 1000 >= 0.94


def test_a_gain_is_wider_than_the_bound_that_knows_the_pairs_and_narrower_than_two_intervals() -> None:
    chance = np.random.default_rng(6)
    federated, alone = pair(400, 0.7, 0.15, 0.05, chance)
    found = gains(federated, alone, positive=1)["accuracy"]
    ours, own = (performance(one.cells, cells_sd=0, positive=1).accuracy for one in (federated, alone))
    assert found is not None
    assert ours is not None
    assert own is not None
    assert found.value == pytest.approx(ours.value - own.value)
    independent = 1.96 * np.sqrt(0.85 * 0.15 / 400 + 0.75 * 0.25 / 400)
    assert independent * 0.95 < found.high - found.value < (ours.high - ours.low + own.high - own.low) / 2


def test_gains_of_more_classes_and_of_other_widths() -> None:
    three = gains(Counted(np.diag([30.0, 30, 30]), 0.0), Counted(np.full((3, 3), 10.0), 0.0), positive=2)
    assert three["accuracy"] is not None
    assert three["accuracy"].value == pytest.approx(2 / 3)
    assert three["auroc"] is None
    bins = np.array([[20.0] * 5 + [5.0] * 5, [5.0] * 5 + [20.0] * 5])
    for positive in (0, 1):
        wide = Counted(bins if positive else bins[::-1], 0.0)
        narrow = Counted(wide.cells.reshape(2, 2, 5).sum(axis=2), 0.0)
        for alone, has_auroc in ((wide, True), (narrow, False)):
            found = gains(wide, alone, positive=positive)
            assert found["accuracy"] is not None
            assert found["accuracy"].value == 0
            assert (found["auroc"] is not None) == has_auroc
    drowned = gains(Counted(bins, 0.0), Counted(np.full((2, 10), 1.0), 20.0), positive=1)
    assert drowned == {"accuracy": None, "auroc": None}


def test_sites_are_counted_by_what_their_interval_says() -> None:
    said = {
        "a": {"accuracy": Estimate(0.1, 0.01, 0.2), "auroc": None},
        "b": {"accuracy": Estimate(-0.1, -0.2, -0.01), "auroc": Estimate(0.1, 0.05, 0.2)},
        "c": {"accuracy": Estimate(0.1, -0.01, 0.2), "auroc": Estimate(0.0, -0.1, 0.1)},
        "d": {"accuracy": None, "auroc": None},
    }
    assert tally(said) == {"accuracy": Tally(1, 1, 1, 1), "auroc": Tally(1, 0, 1, 2)}
    assert tally({}) == {}

"""The bootstrap over documents, held against the normal distribution, numpy's percentiles and a count by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedfm.metrics import bootstrap


def test_documents_are_drawn_with_replacement_and_alike() -> None:
    places = bootstrap.drawn(40, np.random.default_rng(1))
    assert places.shape == (bootstrap.DRAWS, 40)
    often = np.bincount(places.ravel(), minlength=40)
    assert len(often) == 40
    assert np.abs(often / bootstrap.DRAWS - 1).max() < 5 / np.sqrt(bootstrap.DRAWS)  # each once a draw; 5 deviations
    apart = np.mean([len(set(row)) for row in places.tolist()])
    assert apart == pytest.approx(40 * (1 - (1 - 1 / 40) ** 40), abs=0.3)


def test_means_spread_as_those_of_documents_do_in_theory() -> None:
    """The deviation of a mean of N drawn documents is theirs, divided by N and not by N - 1, over the root of N."""
    figures = np.random.default_rng(2).normal(0.3, 2.0, 400)
    found = bootstrap.mean(figures, np.random.default_rng(3))
    error = figures.std() / np.sqrt(400)
    assert found.value == figures.mean()
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.15 * error)


@pytest.mark.parametrize("name", ["mean", "median"])
def test_intervals_are_numpys_percentiles_of_the_same_draws(name: str) -> None:
    figures, of = np.random.default_rng(4).exponential(size=31), getattr(np, name)
    rng = np.random.default_rng(5)
    draws = [float(of(figures[row])) for row in np.random.default_rng(5).integers(31, size=(bootstrap.DRAWS, 31))]
    found = getattr(bootstrap, name)(figures, rng)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(draws, [2.5, 97.5])), rel=1e-12)
    assert found.value == of(figures)


def test_all_figures_of_a_document_are_drawn_together() -> None:
    one = np.random.default_rng(6).normal(size=25)
    drawn = bootstrap.means(np.stack([one, 1 - 2 * one]), np.random.default_rng(7))
    assert drawn.shape == (2, bootstrap.DRAWS)
    np.testing.assert_allclose(drawn[1], 1 - 2 * drawn[0], atol=1e-12)
    np.testing.assert_allclose(drawn[0], bootstrap.means(one, np.random.default_rng(7)), atol=1e-12)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8), st.integers(0, 99))
def test_an_interval_holds_its_figure_and_lies_among_the_documents(values: list[float], seed: int) -> None:
    found = bootstrap.mean(np.array(values), np.random.default_rng(seed))
    assert min(values) - 1e-12 <= found.low <= found.value <= found.high <= max(values) + 1e-12


def test_a_figure_beyond_all_its_draws_is_still_in_its_interval() -> None:
    assert vars(bootstrap.percentiles(3.0, np.arange(2.0))) == {"value": 3.0, "low": 0.025, "high": 3.0}


def test_no_chance_is_nothing() -> None:
    assert bootstrap.chance(np.zeros(99, bool)) == 0.01
    assert bootstrap.chance(np.arange(99) < 49) == 0.5
    assert bootstrap.chance(np.ones(99, bool)) == 1.0

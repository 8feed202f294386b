"""Games whose values are known."""

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server_app.games import EXACT, Game, leave_one_out, shapley

CHANCE = np.random.default_rng(1)


def random_game(players: int, seed: int) -> Game:
    """Subsets of any worth: a table by bit mask."""
    worths = np.random.default_rng(seed).normal(size=2**players)
    return Game(players, lambda members: float(worths[sum(1 << player for player in members)]))


def values(game: Game) -> list[float]:
    return shapley(game, CHANCE, permutations=1).tolist()


@given(own=st.lists(st.floats(-5, 5), min_size=1, max_size=EXACT))
def test_where_nothing_interacts_each_brings_its_own(own: list[float]) -> None:
    def game() -> Game:
        return Game(len(own), lambda members: 3.0 + sum(own[player] for player in members))

    assert values(game()) == pytest.approx(own, abs=1e-12)
    assert leave_one_out(game(), CHANCE) == pytest.approx(own, abs=1e-12)


def test_the_glove_game() -> None:
    """A left glove alone is worth nothing: two hold a left one, one the right one."""
    game = Game(3, lambda members: float(2 in members and len(members) > 1))
    assert values(game) == pytest.approx([1 / 6, 1 / 6, 2 / 3], abs=1e-15)
    assert leave_one_out(game, CHANCE).tolist() == [0.0, 0.0, 1.0]
    assert game.evaluations == 8


@given(players=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_the_values_are_the_mean_over_all_orders_and_sum_to_the_total(players: int, seed: int) -> None:
    game, found = random_game(players, seed), np.zeros(players)
    for order in permutations(range(players)):
        sets = [frozenset(order[:count]) for count in range(players + 1)]
        for player, (before, after) in zip(order, pairwise(sets), strict=True):
            found[player] += game.worth(after) - game.worth(before)
    assert values(game) == pytest.approx((found / math.factorial(players)).tolist(), abs=1e-12)
    assert sum(values(game)) == pytest.approx(game.total, abs=1e-12)
    assert game.evaluations == 2**players


def test_players_that_do_the_same_bring_the_same() -> None:
    game = Game(4, lambda members: math.sqrt(len(members & {0, 1, 2})) + (3 in members) * len(members))
    one, two, three, _ = values(game)
    assert one == pytest.approx(two, abs=1e-15) == pytest.approx(three, abs=1e-15)


def saturating(members: frozenset[int]) -> float:
    """Ten players of weights 1 to 10, whose joint worth levels off: most orders end early."""
    return 1 - math.exp(-sum(1 + player for player in members) / 12)


def test_permutations_approach_the_exact_values_and_keep_the_total() -> None:
    players, repeats = EXACT + 2, 40
    whole = Game(players, saturating)
    exact = np.zeros(players)
    for mask in range(2**players):
        members = frozenset(player for player in range(players) if mask >> player & 1)
        for player in whole.everyone - members:
            weight = math.factorial(len(members)) * math.factorial(players - len(members) - 1)
            gained = whole.worth(members | {player}) - whole.worth(members)
            exact[player] += weight / math.factorial(players) * gained
    drawn, evaluations = [], []
    for seed in range(repeats):
        game = Game(players, saturating)
        drawn.append(shapley(game, np.random.default_rng(seed), permutations=25))
        assert drawn[-1].sum() == pytest.approx(game.total, abs=1e-12)
        evaluations.append(game.evaluations)
    mean, error = np.mean(drawn, axis=0), np.std(drawn, axis=0, ddof=1) / math.sqrt(repeats)
    assert (np.abs(mean - exact) < 4 * error + 0.01 * whole.total / players).all()
    assert max(evaluations) < 2**players  # 25 orders do not see every subset, and end early


def test_an_order_ends_where_nothing_is_left_to_gain() -> None:
    game = Game(EXACT + 1, lambda members: float(bool(members)))  # the first brings all
    found = shapley(game, np.random.default_rng(1), permutations=10)
    assert game.evaluations <= 2 + EXACT + 1  # none, all, and single players
    assert found.sum() == pytest.approx(1.0)

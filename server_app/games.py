"""How much each of S players brings to a game: pure arithmetic over the worth of subsets.

To add a method: write a function with the signature of ``leave_one_out``, add it to ``CONTRIBUTIONS``, and add
``conf/contribution/<name>.yaml``. Keyword-only arguments are the method's parameters.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

EXACT = 8
"""Most players whose Shapley values are summed over all subsets; 2^S evaluations."""

_NEGLIGIBLE = 0.01
"""A permutation ends where what is left to gain is below this share of what all bring."""

Values = NDArray[np.float64]


class Game:
    """What each subset of the players is worth; each subset is evaluated once.

    Args:
        players: S >= 1.
        worth: From the members of a subset to a figure; of the empty one too.
    """

    def __init__(self, players: int, worth: Callable[[frozenset[int]], float]) -> None:
        self.players = players
        self._worth = worth
        self._known: dict[frozenset[int], float] = {}

    def worth(self, members: frozenset[int]) -> float:
        """Return what these players are worth together."""
        if members not in self._known:
            self._known[members] = self._worth(members)
        return self._known[members]

    @property
    def everyone(self) -> frozenset[int]:
        """All players."""
        return frozenset(range(self.players))

    @property
    def total(self) -> float:
        """What all players are worth, less what none is."""
        return self.worth(self.everyone) - self.worth(frozenset())

    @property
    def evaluations(self) -> int:
        """Subsets that were evaluated."""
        return len(self._known)


def leave_one_out(game: Game, chance: Generator) -> Values:
    """Return float64[S]: what all are worth, less what all but this one are; it knows nothing of interactions."""
    all_of_them = game.worth(game.everyone)
    return np.array([all_of_them - game.worth(game.everyone - {player}) for player in range(game.players)])


def shapley(game: Game, chance: Generator, *, permutations: int) -> Values:
    """Return float64[S]: the mean of what each player adds to those before it, over all orders.

        phi_k = sum over S without k of |S|! (n - |S| - 1)! / n! (v(S + k) - v(S))

    Exact for up to ``EXACT`` players; else over permutations drawn at random, each of which ends where what is left to
    gain is negligible; what is left is shared by those who have not come.

    Args:
        game: n players.
        chance: Draws the permutations.
        permutations: How many, where there are too many players.

    Guarantees:
        The values sum to ``game.total``, up to rounding.

    Source: Shapley 1953; sampling and truncation, Ghorbani and Zou 2019, arXiv:1904.02868, algorithm 1; within the
    rounds of a federation, Liu et al. 2022, arXiv:2109.02053 (GTG-Shapley).
    """
    return _exact(game) if game.players <= EXACT else _sampled(game, chance, permutations)


def _exact(game: Game) -> Values:
    count, found = game.players, np.zeros(game.players)
    for mask in range(2**count):
        members = frozenset(player for player in range(count) if mask >> player & 1)
        for player in game.everyone - members:
            share = 1 / (count * math.comb(count - 1, len(members)))  # |S|! (n - |S| - 1)! / n!
            found[player] += share * (game.worth(members | {player}) - game.worth(members))
    return found


def _sampled(game: Game, chance: Generator, permutations: int) -> Values:
    count, found = game.players, np.zeros(game.players)
    best, least = game.worth(game.everyone), _NEGLIGIBLE * abs(game.total)
    for _ in range(permutations):
        order = chance.permutation(count).tolist()
        members, before = frozenset[int](), game.worth(frozenset())
        for place, player in enumerate(order):
            if abs(best - before) <= least:
                found[order[place:]] += (best - before) / (count - place)
                break
            members |= {player}
            after = game.worth(members)
            found[player] += after - before
            before = after
    return found / permutations


CONTRIBUTIONS: Mapping[str, Callable[..., Values]] = {"leave_one_out": leave_one_out, "shapley": shapley}

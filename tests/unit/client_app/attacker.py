"""Somebody who has all that was published about a set of patients, and solves for what was not."""

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

MOST = 5000  # patients of a cell, as far as somebody can know who has no total

Counts = NDArray[np.int64]


class Attacker:
    """Knows linear facts about patients by several attributes, and finds what each set of patients may number.

    Every assignment of whole numbers of patients to the crossed values of all attributes that agrees with what is
    published is a world that may be; two integer programs give the smallest and the largest number of a set.

    Args:
        axes: Attribute to the number of its values, in the order of the axes of counts.
    """

    def __init__(self, axes: Mapping[str, int]) -> None:
        self.axes = dict(axes)
        self._facts: list[tuple[NDArray[np.float64], float, float]] = []

    def of(self, **values: int | tuple[int, ...]) -> NDArray[np.bool_]:
        """Return the set of patients who have one of the given values of each named attribute."""
        inside = np.ones(tuple(self.axes.values()), dtype=bool)
        for axis, (name, size) in enumerate(self.axes.items()):
            if name in values:
                found = values[name]
                chosen = np.isin(np.arange(size), found)
                inside &= chosen.reshape([-1 if at == axis else 1 for at in range(len(self.axes))])
        return inside

    def learns(self, who: NDArray[np.bool_], low: float, high: float | None = None) -> None:
        """Take as a fact that a set has so many patients, or from so many to so many."""
        self._facts.append((who.ravel().astype(float), low, low if high is None else high))

    def learns_share(self, part: NDArray[np.bool_], whole: NDArray[np.bool_], percent: float, digits: int = 1) -> None:
        """Take as a fact what percentage of a set another is, as rounded in a report."""
        half = 0.5 * 10.0**-digits
        for sign, end in ((1.0, (percent + half) / 100), (-1.0, (percent - half) / 100)):
            difference = sign * (part.ravel().astype(float) - end * whole.ravel().astype(float))
            self._facts.append((difference, -np.inf, 1e-9))

    def range(self, who: NDArray[np.bool_]) -> tuple[int, int]:
        """Return the fewest and the most patients that the set may have."""
        return -self._most(who, -1), self._most(who, 1)

    def knows_small(self, who: NDArray[np.bool_], least: int = 11) -> bool:
        """Whether it is certain that somebody is in the set, and that they are few: in every world, 1 to least - 1.

        To be pinned to one small number is a case of it. What CMS asks is less: it lets ``<11`` be printed.
        """
        return self._most(who, 1) < least and -self._most(who, -1) >= 1

    def finds(self, truth: Counts, least: int = 11) -> list[str]:
        """Return every small set of which the attacker knows that it is small.

        Sets cross one value of each attribute, or all but one (who knows a total and a part knows the rest), or one and
        the last (a group that is not shown, or none).
        """
        found, large = [], np.zeros((0, truth.size), dtype=bool)
        sets = [(self.of(**chosen), chosen) for chosen in self._sets()]
        for who, chosen in sorted(sets, key=lambda one: int(one[0].sum())):
            if not 1 <= truth[who].sum() < least or not (large & ~who.ravel()).any(axis=1).all():
                continue  # not small, or a part of it may be large already
            if self._most(who, 1) >= least:
                large = np.vstack([large, who.ravel()])
            elif -self._most(who, -1) >= 1:
                found.append(", ".join(f"{name}={''.join(map(str, values))}" for name, values in chosen.items()))
        return found

    def _sets(self) -> Iterator[dict[str, tuple[int, ...]]]:
        choices = []
        for size in self.axes.values():
            every = tuple(range(size))
            one, but_one = [(value,) for value in every], [every[:value] + every[value + 1 :] for value in every]
            or_last = [(value, size - 1) for value in every[:-1]]
            choices.append(dict.fromkeys([*one, *but_one, *or_last, every]))
        for values in product(*choices):
            named = zip(self.axes, values, strict=True)
            yield {name: chosen for name, chosen in named if len(chosen) < self.axes[name]}

    def _most(self, who: NDArray[np.bool_], sign: int) -> int:
        wanted = -sign * who.ravel().astype(float)
        facts = []
        if self._facts:
            rows, low, high = zip(*self._facts, strict=True)
            facts = [LinearConstraint(np.array(rows), np.array(low), np.array(high))]
        solved = milp(wanted, constraints=facts, integrality=np.ones(who.size), bounds=Bounds(0, MOST))
        assert solved.success, solved.message
        return round(-solved.fun)

"""A look at reasons whose figures are given, for tests of what is made of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedfm.examples import Example
from fedfm.explain.audit import Audit, Watched
from fedfm.explanations import names_of

Given = Callable[[str, Example], float]
"""Figure and document to a number."""


def giving(given: Given, terms: Mapping[int, NDArray[np.float64]] | None = None) -> Callable[..., Audit]:
    """Return what stands for ``fedfm.explain.audit.audit``; ``terms`` is row of the table to its credits."""

    def audit(
        _model: Any,
        examples: Sequence[Example],
        *,
        watched: Watched,
        randomised: bool = False,
        **_: Any,
    ) -> Audit:
        names = [*names_of(watched.shortcuts, watched.swaps), *(["randomised_head"] if randomised else [])]
        sums = _figures(given, names, examples)
        width = len(watched.vocabulary)
        rows = [(terms or {}).get(example.row, np.zeros(width))[:width] for example in examples]
        credited = np.array(rows, dtype=np.float64).reshape(len(rows), width)
        return Audit(sums=sums, groups=[e.groups for e in examples], terms=credited, holds=credited != 0)

    return audit


def leaning_by(given: Given) -> Callable[..., dict[str, NDArray[np.float64]]]:
    """Return what stands for ``fedfm.explain.audit.leanings``."""

    def leanings(
        _model: Any, examples: Sequence[Example], *, watched: Watched, **_: Any
    ) -> dict[str, NDArray[np.float64]]:
        of_lists = [name for name in names_of(watched.shortcuts, watched.swaps) if ":" in name]
        return _figures(given, of_lists, examples)

    return leanings


def _figures(given: Given, names: Sequence[str], examples: Sequence[Example]) -> dict[str, NDArray[np.float64]]:
    return {name: np.array([given(name, example) for example in examples], dtype=np.float64) for name in names}

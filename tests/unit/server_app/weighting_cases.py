"""What sites may say, drawn for the tests of weighting rules."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from server_app.weighting.heard import Heard, Signal, SiteReport, Weighed
from server_app.weighting.rules import RULES

PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "cohort": {},
    "uniform": {},
    "power": {"q": 2.0},
    "tilt": {"t": 1.5},
    "propfair": {"ceiling": 2.5},
    "dro": {"gamma": 0.4, "form": "exponentiated"},
    "dro, projected": {"gamma": 0.4, "form": "projected"},
    "fairfed": {"attribute": "sex", "beta": 3.0, "form": "exponential"},
    "fairfed, clipped": {"attribute": "sex", "beta": 3.0, "form": "clipped"},
    "mgda": {"eps": 0.3},
    "cgsv": {"alpha": 0.7},
    "fedfv": {"alpha": 0.2},
    "fednova": {"momentum": 0.9},
}
"""One or two settings of every rule."""

CONVEX = [case for case in PARAMETERS if case not in ("fedfv", "fednova")]
GUARDED = [case for case in CONVEX if case != "uniform"]
BY_SIGNAL = [case for case in GUARDED if case not in ("cohort", "mgda", "cgsv")]


def weigh(case: str, heard: Heard, **changes: Any) -> Weighed:
    return RULES[case.partition(",")[0]](heard, **{**PARAMETERS[case], **changes})


def gram_of(updates: NDArray[np.float64]) -> NDArray[np.float64]:
    return updates @ updates.T


def told(*values: float, patients: Sequence[int] = (), gap: float | None = None) -> Heard:
    """Sites a, b, ... of equal cohorts and exact signals, the loss and the gap being the same number."""
    sizes = patients or [100] * len(values)
    reports = [
        SiteReport(name, size, loss=Signal(value, 0.0), gap=Signal(value, 0.0))
        for name, size, value in zip("abcdefghij", sizes, values, strict=False)
    ]
    return Heard(reports, gap=None if gap is None else Signal(gap, 0.0))


def reordered(heard: Heard, order: Sequence[int]) -> Heard:
    gram = None if heard.gram is None else heard.gram[np.ix_(order, order)]
    return replace(heard, reports=[heard.reports[place] for place in order], gram=gram)


losses = st.floats(0.0, 2.0)
signals = st.builds(Signal, losses, st.sampled_from([0.0, 0.01, 0.3]))
unusable = st.none() | st.sampled_from([Signal(math.nan, 0.0), Signal(0.5, math.nan), Signal(math.inf, 0.1)])
gaps = st.builds(Signal, st.floats(-1, 1), st.sampled_from([0.0, 0.02, 0.4]))


@st.composite
def heards(draw: st.DrawFn, *, complete: bool = False, most: int = 9) -> Heard:
    """Sites in order of their names; their updates may depend on each other, or be 0, unless they are complete."""
    size = draw(st.integers(1, most))
    missing = st.nothing() if complete else unusable
    reports = [
        SiteReport(
            site=f"site-{place}",
            declared_patients=draw(st.integers(1, 10**6)),
            steps=draw(st.integers(1, 20)),
            loss=draw(signals | missing),
            gap=draw(gaps | missing),
        )
        for place in range(size)
    ]
    updates = np.random.default_rng(draw(st.integers(0, 2**32))).normal(
        size=(size, size + 2 if complete else draw(st.integers(1, 6)))
    )
    if not complete and draw(st.booleans()):
        updates[draw(st.integers(0, size - 1))] = 0.0
    return Heard(reports, gram_of(updates), draw(gaps | missing))

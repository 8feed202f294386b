"""The site's gates in a table: the worst first."""

import dataclasses

from client_app.reasons.check_tables import worst_first
from client_app.reasons.gates import Gate
from fedfm.metrics.performance import Estimate


def gate(name: str, *, passed: bool | None, value: float = 0.0, half: float = 0.1) -> Gate:
    estimate = None if passed is None else Estimate(value, value - half, value + half)
    return Gate(name, passed, estimate, 1.0, "words")


def test_what_failed_by_most_comes_first_and_what_passed_last() -> None:
    """By most in widths of its own interval: figures of different gates have different units."""
    near, far = gate("near", passed=False, value=1.2), gate("far", passed=False, value=1.2, half=0.01)
    open_, good = gate("open", passed=None), gate("good", passed=True)
    infinite = dataclasses.replace(near, name="update", estimate=None)
    found = worst_first([good, open_, near, infinite, far])
    assert [one.name for one in found] == ["far", "near", "update", "open", "good"]

"""The benchmarks by name. To add one: a module with ``BENCHMARK`` and ``measure``, and a line here."""

from collections.abc import Callable

from scripts.benchmarks import heart_disease, icu_notes, ledger, round_overhead, simulation
from scripts.benchmarks.result import Benchmark, Result

BENCHMARKS: dict[str, tuple[Benchmark, Callable[[], Result]]] = {
    each.BENCHMARK.name: (each.BENCHMARK, each.measure)
    for each in (round_overhead, ledger, simulation, heart_disease, icu_notes)
}

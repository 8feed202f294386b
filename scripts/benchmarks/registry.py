"""The benchmarks by name. To add one: a module with ``BENCHMARK`` and ``measure``, and a line here."""

from collections.abc import Callable

from scripts.benchmarks import heart_disease, icu_notes, local_epoch, private_step, round_overhead, simulation
from scripts.benchmarks.result import Benchmark, Result

BENCHMARKS: dict[str, tuple[Benchmark, Callable[[], Result]]] = {
    each.BENCHMARK.name: (each.BENCHMARK, each.measure)
    for each in (round_overhead, private_step, local_epoch, simulation, heart_disease, icu_notes)
}

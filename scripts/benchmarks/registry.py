"""The benchmarks by name. To add one: a module with ``BENCHMARK`` and ``measure``, and a line here."""

from collections.abc import Callable

from scripts.benchmarks import (
    aggregate,
    demo_fairness,
    explain,
    heart_disease,
    icu_notes,
    icu_tables,
    ledger,
    local_epoch,
    private_step,
    private_utility,
    private_utility_public,
    round_overhead,
    simulation,
)
from scripts.benchmarks.result import Benchmark, Result

BENCHMARKS: dict[str, tuple[Benchmark, Callable[[], Result]]] = {
    each.BENCHMARK.name: (each.BENCHMARK, each.measure)
    for each in (
        private_step,
        local_epoch,
        ledger,
        aggregate,
        round_overhead,
        simulation,
        private_utility,
        private_utility_public,
        heart_disease,
        icu_notes,
        icu_tables,
        demo_fairness,
        explain,
    )
}

"""What ``docs/benchmarks.md`` claims, measured: one module for each benchmark, one line in ``registry.BENCHMARKS``."""

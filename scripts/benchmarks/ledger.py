"""What a charge costs when the ledger is long, with each flush to the disk in it."""

import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from client_app.ledger import Charge, Ledger, Limits
from fedfm.privacy import Release
from scripts.benchmarks.result import Benchmark, Result, Target

ENTRIES = 10_000
STUDIES = 50
ROUNDS = 100  # each with two entries
TIMED = 30
SAMPLED = 2
LIMITS = Limits(run=100.0, total=100.0, delta=1e-4)
NO_LIMITS = Limits(run=math.inf, total=math.inf, delta=1e-4)

BENCHMARK = Benchmark(
    name="ledger",
    what=(
        f"One charge in a running trainer after {ENTRIES:,} entries: verify the ledger, judge run and total, flush "
        f"it to the disk, and compute epsilon of all of it afterwards. {STUDIES} studies of {ROUNDS} rounds with a "
        f"noise of their own, full batches, training and counts; median of {TIMED}."
    ),
    targets={"charge_milliseconds": Target("<=", 50.0)},
)


@dataclass(frozen=True)
class _Times:
    """Medians in seconds: of a charge and the epsilon after it, of that epsilon, of one that was asked before."""

    both: float
    query: float
    again: float


def measure() -> Result:
    """Fill a ledger as studies would, then time charges on top of it; the same with a few studies that sample."""
    with tempfile.TemporaryDirectory() as folder:
        full, mixed = (Ledger(Path(folder), cohort) for cohort in ("full", "mixed"))
        filling = _seconds(lambda: _fill(full, range(STUDIES), rate=1.0, limits=LIMITS))
        shutil.copy(full.path, mixed.path)
        times = _timed(full, rate=1.0)
        restart = _seconds(lambda: Ledger(Path(folder), "full").epsilon("train", LIMITS.delta))
        _fill(mixed, range(STUDIES, STUDIES + SAMPLED), rate=0.1, limits=NO_LIMITS)
        sampled = _timed(mixed, rate=0.1)
        figures = {
            "charge_milliseconds": 1000 * times.both,
            "query_milliseconds": 1000 * times.query,
            "known_query_milliseconds": 1000 * times.again,
            "flush_milliseconds": 1000 * _flush(Path(folder) / "flush"),
            "entries_per_second": ENTRIES / filling,
            "restart_milliseconds": 1000 * restart,
            "sampled_charge_milliseconds": 1000 * sampled.both,
            "ledger_megabytes": full.path.stat().st_size / 1e6,
        }
    return Result(
        figures=figures,
        seeds=(),
        notes=(
            "flush_milliseconds: a bare write and fsync of a line of that length on the same disk, for comparison.",
            f"sampled_charge_milliseconds: after {SAMPLED} studies more; they and the one that goes on sample a tenth.",
            "Where steps sample, the accountant composes each noise by itself; full batches are merged before.",
            "restart_milliseconds: a new process verifies every seal of the ledger once; its own start is not in it.",
        ),
    )


def _fill(ledger: Ledger, studies: range, *, rate: float, limits: Limits) -> None:
    for study in studies:
        for round_ in range(ROUNDS):
            for charge in _round(study, round_, rate):
                ledger.charge(charge, limits)


def _round(study: int, round_: int, rate: float) -> tuple[Charge, Charge]:
    """Return what one round of one study writes: training, and counts of test patients."""
    run, name, share = f"20260101-{study:06d}-study-{study}", f"study-{study}", 1 + study / STUDIES
    training = Release(80.0 * share * (1.0 if rate == 1 else rate), rate, 4)
    counts = Release(60.0 * share, 1.0, 1)
    return (
        Charge(run, name, round_, "train", "training", training),
        Charge(run, name, round_, "test", "evaluation", counts),
    )


def _timed(ledger: Ledger, *, rate: float) -> _Times:
    both, query, again = [], [], []
    for round_ in range(TIMED):
        charge, _ = _round(STUDIES, round_, rate)
        written = _seconds(lambda charge=charge: ledger.charge(charge, LIMITS))  # type: ignore[misc]
        query.append(_seconds(lambda: ledger.epsilon("train", LIMITS.delta)))
        both.append(written + query[-1])
        again.append(_seconds(lambda: ledger.epsilon("train", LIMITS.delta)))
    return _Times(median(both), median(query), median(again))


def _flush(path: Path) -> float:
    """Return the median seconds of writing and flushing one line of a ledger's length, and nothing else."""
    with path.open("ab", buffering=0) as file:

        def flushed() -> None:
            file.write(b"x" * 360)
            os.fsync(file.fileno())

        return median(_seconds(flushed) for _ in range(TIMED))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started

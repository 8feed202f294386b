"""What a round costs beyond the hospitals' own computing, on the real engine."""

import tempfile
from pathlib import Path
from statistics import median

from fedfm.errors import EngineError
from scripts.benchmarks.hospitals import write_hospitals
from scripts.benchmarks.result import Benchmark, Result, Target
from scripts.benchmarks.timeline import RoundTimes, round_times
from scripts.engine.federation import Federation, stage_app
from scripts.engine.following import run_and_follow
from scripts.engine.launching import await_sites, running

SEED = 1
SITES = 4
ROUNDS = 6
OVERRIDES = f"experiment=demo model=tiny adapter=head explainability=none rounds={ROUNDS} seed={SEED}"

BENCHMARK = Benchmark(
    name="round",
    what=(
        f"Wall time of a round (train and evaluate) minus the slowest site's own computing: {SITES} sites on one "
        "machine, real engine, TLS, node keys, a warm trainer at each site; median of the rounds after the first. "
        "Both questions in one exchange (evaluation.exchange=with_training), and in two (own) beside it."
    ),
    targets={"overhead_seconds": Target("<=", 4.0)},
)


def measure() -> Result:
    """Run a federation of tiny hospitals twice and time its rounds."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        files = write_hospitals(state / "data", sites=SITES, patients=100, seed=SEED)
        with running(files, state / "federation", results=state / "results") as federation:
            await_sites(federation)
            own = _rounds(federation, state / "results", files, exchange="own")
            # the last round of this one has an exchange of its own for the last model, as every run has
            together = _rounds(federation, state / "results", files, exchange="with_training")[:-1]
    return Result(
        figures={
            "overhead_seconds": _overhead(together),
            "exchange_seconds": median(each.train for each in together),
            "compute_seconds": median(each.compute for each in together),
            "combine_seconds": median(each.combine for each in together),
            "own_overhead_seconds": _overhead(own),
            "train_seconds": median(each.train for each in own),
            "evaluate_seconds": median(each.evaluate for each in own),
        },
        seeds=(SEED,),
        notes=(
            "A SuperNode of Flower 1.39 asks for work every 3 seconds when idle: up to 3 s of each exchange.",
            "Flower starts a process for each message: 1.3 s of a core for imports; with few they take turns.",
        ),
    )


def _rounds(federation: Federation, results: Path, files: list[Path], *, exchange: str) -> list[RoundTimes]:
    names = ",".join(file.parent.name for file in files)
    overrides = f"{OVERRIDES} sites=[{names}] evaluation.exchange={exchange}"
    finished = run_and_follow(federation, stage_app(federation.state), results=results, overrides=overrides)
    if not finished.completed:
        raise EngineError("ENGINE-E140", "the benchmark's run failed", found=finished.verdict.headline)
    return round_times(finished.folder)


def _overhead(times: list[RoundTimes]) -> float:
    return median(each.train + each.evaluate - each.compute for each in times)

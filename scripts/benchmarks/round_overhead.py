"""What a round costs beyond the hospitals' own computing, on the real engine."""

import tempfile
from pathlib import Path
from statistics import median

from fedfm.errors import EngineError
from scripts.benchmarks.hospitals import write_hospitals
from scripts.benchmarks.result import Benchmark, Result, Target
from scripts.benchmarks.timeline import round_times
from scripts.engine.federation import stage_app
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
        "machine, real engine, TLS, node keys, a warm trainer at each site; median of the rounds after the first."
    ),
    targets={"overhead_seconds": Target("<=", 4.0)},
)


def measure() -> Result:
    """Run a federation of tiny hospitals and time its rounds."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        files = write_hospitals(state / "data", sites=SITES, patients=100, seed=SEED)
        names = ",".join(file.parent.name for file in files)
        with running(files, state / "federation", results=state / "results") as federation:
            await_sites(federation)
            finished = run_and_follow(
                federation,
                stage_app(federation.state),
                results=state / "results",
                overrides=f"{OVERRIDES} sites=[{names}]",
            )
        if not finished.completed:
            raise EngineError("ENGINE-E140", "the benchmark's run failed", found=finished.verdict.headline)
        times = round_times(finished.folder)[1:]
    return Result(
        figures={
            "overhead_seconds": median(each.train + each.evaluate - each.compute for each in times),
            "train_seconds": median(each.train for each in times),
            "evaluate_seconds": median(each.evaluate for each in times),
            "compute_seconds": median(each.compute for each in times),
        },
        seeds=(SEED,),
        notes=(
            "A SuperNode of Flower 1.39 asks for work every 3 seconds when idle: up to 3 s of each phase.",
            "Flower starts a process for each message; with few cores those of the sites take turns.",
        ),
    )

"""How fast a federation runs in one process."""

import tempfile
from pathlib import Path

from scripts.benchmarks.hospitals import write_hospitals
from scripts.benchmarks.result import Benchmark, Result, Target
from scripts.benchmarks.timeline import moments
from server_app.simulate import find_sites, simulate

SEED = 1
SITES = 64
ROUNDS = 10
OVERRIDES = ["experiment=demo", "model=tiny", "adapter=head", "explainability=none", f"rounds={ROUNDS}", f"seed={SEED}"]

BENCHMARK = Benchmark(
    name="simulate",
    what=(
        f"{SITES} sites and {ROUNDS} rounds in one process: private training of a linear probe on cached features of "
        "a very small text model, and private evaluation after every round."
    ),
    targets={"sites64_rounds10_seconds": Target("<=", 30.0)},
)


def measure() -> Result:
    """Simulate, and time the rounds from the first question to the last evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        write_hospitals(Path(folder) / "data", sites=SITES, patients=60, seed=SEED)
        sites = find_sites(Path(folder) / "data", site_file="site.yaml")
        simulate(sites, overrides=OVERRIDES, results=Path(folder) / "results")
        happened = moments(Path(folder) / "results" / "latest")
    at = {kind: [moment for moment, event in happened if event["kind"] == kind] for kind in _KINDS}
    seconds = at["ModelEvaluated"][-1] - at["RoundStarted"][0]
    return Result(
        figures={
            "sites64_rounds10_seconds": seconds,
            "milliseconds_per_site_and_round": 1000 * seconds / (SITES * ROUNDS),
            "start_seconds": at["RoundStarted"][0] - at["RunStarted"][0],
        },
        seeds=(SEED,),
        notes=("Reading the data, planning the noise and caching the features is the start; it is not in the rounds.",),
    )


_KINDS = ("RunStarted", "RoundStarted", "ModelEvaluated")

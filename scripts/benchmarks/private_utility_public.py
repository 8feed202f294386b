"""What privacy leaves of the gain on public hospital data: points that `fedfm-study plan` foresees by.

Each study runs with its experiment's own settings, which were chosen on training patients at epsilon = 3, at every
epsilon; without privacy, as the benchmark of its data set does.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from omegaconf import OmegaConf

from fedfm.config.compose import compose_study, load_site
from scripts.benchmarks import icu_notes
from scripts.benchmarks.public_sites import copy_sites, public_folder
from scripts.benchmarks.result import Benchmark, Result
from scripts.benchmarks.scoring import auroc, federate
from server_app.planning import Federation, outlook, trained_parameters
from server_app.simulate import find_sites

EPSILONS = (1.0, 3.0, 8.0)
REPEATS = (1, 2, 3)
COMMON = ["evaluation=exact", "explainability=none"]
OPEN = {
    "heart_disease": ["experiment=heart_disease", "privacy=none"],
    "icu_notes": icu_notes.OPEN,
    "icu_tables": ["experiment=icu_tables", "privacy=none"],
}
"""Data set to its study without privacy."""

BENCHMARK = Benchmark(
    name="private-utility-public",
    what=(
        "Share of the gain without privacy (pooled AUROC above one half) that studies of public hospital data keep "
        "under patient-level privacy, and the noise to signal that fedfm-study plan states for them."
    ),
    targets={},
)


@dataclass(frozen=True)
class Study:
    """A public data set's sites, copied, and what is asked of them.

    Attributes:
        name: Of the data set and of its experiment.
        sites: Site to site file.
        results: Where runs are written.
    """

    name: str
    sites: dict[str, Path]
    results: Path


def measure() -> Result:
    """Run every study at each epsilon, repeated for the noise, and once without privacy at the end."""
    figures: dict[str, float] = {}
    notes: list[str] = []
    for name, without in OPEN.items():
        with tempfile.TemporaryDirectory() as folder:
            study = _copied(name, Path(folder))
            private = {epsilon: [_auroc(study, _private(study, epsilon)) for _ in REPEATS] for epsilon in EPSILONS}
            openly = _auroc(study, without)  # last: a site that trained openly has nothing left to give
            ratios = {epsilon: foreseen(study, _private(study, epsilon)) for epsilon in EPSILONS}
        figures[f"{name}_open_auroc"] = openly
        for epsilon, found in private.items():
            kept = [(one - 0.5) / (openly - 0.5) for one in found]
            figures[f"{name}_epsilon{epsilon:g}_noise_to_signal"] = ratios[epsilon]
            figures[f"{name}_epsilon{epsilon:g}_kept"] = mean(kept)
            notes.append(f"{name} at epsilon = {epsilon:g}: {', '.join(f'{share:.2f}' for share in sorted(kept))}.")
    return Result(figures=figures, seeds=REPEATS, notes=("Shares kept, each run: " + " ".join(notes), *_NOTES))


def foreseen(study: Study, overrides: Sequence[str]) -> float:
    """Return the noise to signal of the averaged update, at sites of the mean declared size."""
    sizes = [load_site(path).declared_patients for path in study.sites.values()]
    asked = compose_study(overrides).value
    federation = Federation(len(sizes), trained_parameters(asked))
    return outlook(asked, round(mean(sizes)), federation).averaged


def _copied(name: str, folder: Path) -> Study:
    sites = find_sites(copy_sites(public_folder(name), folder / "sites"), site_file="site.yaml")
    for path in sites.values():
        content = OmegaConf.load(path)
        OmegaConf.update(content, "policy.max_epsilon", 100.0)  # one ledger holds all runs; each keeps its own epsilon
        OmegaConf.save(content, path)
    return Study(name, sites, folder / "results")


def _private(study: Study, epsilon: float) -> list[str]:
    return [f"experiment={study.name}", f"privacy.epsilon={epsilon:g}"]


def _auroc(study: Study, overrides: Sequence[str]) -> float:
    return auroc(federate(study.sites, overrides=[*overrides, *COMMON], results=study.results).values())


_NOTES = (
    "Sites differ in size; noise to signal is that of sites of their mean size.",
    "The noise of a private run cannot be seeded.",
)

"""What the coordinator takes to make one update of many: time and peak memory, by rule, combiner and sites."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import yaml  # type: ignore[import-untyped]
from numpy.typing import NDArray

from fedfm.arrays import Arrays, layout
from fedfm.config.compose import compose_study
from fedfm.config.study import Rule, Study
from fedfm.wire import PrivacySpent, TrainReply
from scripts.benchmarks.result import Benchmark, Result, Target
from scripts.engine.federation import PROJECT
from server_app.aggregation import Aggregation
from server_app.combining.rules import COMBINERS
from server_app.signals import Signals
from server_app.updates import Updates
from server_app.weighting.heard import Signal
from server_app.weighting.rules import RULES

SEED = 1
SITES = (10, 100, 1000)
LAYERS, WIDTH, RANK = 6, 384, 8  # LoRA on query and value of MiniLM, and a head of two classes: 74,498 parameters
REPEATS = 3

BENCHMARK = Benchmark(
    name="aggregate",
    what=(
        "The coordinator's share of a round after the screening: 74,498 float32 parameters (LoRA of rank 8 on query "
        f"and value of MiniLM) from {', '.join(map(str, SITES))} sites are written to its disk, weighed, combined and "
        "added to the global parameters. Every weighting rule with the linear combiner, and every combiner with equal "
        "weights; one thread."
    ),
    targets={
        "linear_1000_sites_seconds": Target("<=", 1.0),
        "gram_1000_sites_seconds": Target("<=", 5.0),
        "linear_memory_growth": Target("<=", 1.5),
        "linear_time_growth": Target("<=", 1.25),
    },
)


@dataclass(frozen=True)
class Measured:
    """One case.

    Attributes:
        writing: Seconds in which all updates were written.
        aggregating: Seconds from the updates on disk to the next parameters, median.
        megabytes: Growth of the largest resident size over the process before the first update.
        is_gram: Whether the inner products of all pairs of updates were formed.
    """

    writing: float
    aggregating: float
    megabytes: float
    is_gram: bool

    @property
    def seconds(self) -> float:
        """Return all of it."""
        return self.writing + self.aggregating


def measure() -> Result:
    """Measure each case in a process of its own, so that none finds memory that another one has left."""
    cases = {f"weighting_{rule}": (rule, "linear") for rule in RULES}
    cases |= {f"combining_{rule}": ("uniform", rule) for rule in COMBINERS if rule != "linear"}
    found = {name: {sites: _in_process(*case, sites) for sites in SITES} for name, case in cases.items()}
    figures = _headlines({name: of for name, of in found.items() if name.startswith("weighting_")}, found)
    for name, of in found.items():
        figures |= {f"{name}_{sites}_sites_seconds": one.seconds for sites, one in of.items()}
        figures |= {f"{name}_{sites}_sites_megabytes": one.megabytes for sites, one in of.items()}
    return Result(figures=figures, seeds=(SEED,), notes=_NOTES)


_Cases = Mapping[str, Mapping[int, Measured]]


def _headlines(weighting: _Cases, every: _Cases) -> dict[str, float]:
    """Return the worst of the rules that add update by update, and of those that look at all pairs."""
    few, some, most = SITES
    linear = [of for of in weighting.values() if not of[most].is_gram]
    gram = [of for of in every.values() if of[most].is_gram]
    return {
        "linear_1000_sites_seconds": max(of[most].seconds for of in linear),
        "gram_1000_sites_seconds": max(of[most].seconds for of in gram),
        "linear_memory_growth": max(of[most].megabytes / of[few].megabytes for of in linear),
        "linear_time_growth": max(of[most].seconds * some / (of[some].seconds * most) for of in linear),
        "writing_1000_sites_seconds": median(of[most].writing for of in every.values()),
    }


def _in_process(weighting: str, combining: str, sites: int) -> Measured:
    """Return what a fresh process measures; what it has to complain of stays visible."""
    command = [sys.executable, "-m", "scripts.benchmarks.aggregate", weighting, combining, str(sites)]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **threads}
    )
    return Measured(**json.loads(done.stdout))


class _Watched(Updates):
    """Updates that know whether their Gram matrix was asked for."""

    is_gram = False

    def gram(self) -> NDArray[np.float64]:
        """Return the same."""
        self.is_gram = True
        return super().gram()


def measured(weighting: str, combining: str, sites: int, *, layers: int = LAYERS) -> Measured:
    """Measure one case in this process; parameters of the rules are those of their files in ``conf/``.

    Raises:
        ConfigError: A rule's file does not fit its function.
    """
    parameters, frozen = _adapter(layers)
    study = replace(compose_study([f"weighting={weighting}"]).value, combining=_rule("combining", combining))
    names = [f"site-{number:04d}" for number in range(sites)]
    replies, signals = _replies(names, study, layout(parameters)), _signals(names)
    aggregation, chance = Aggregation(study, frozen), np.random.default_rng(SEED)
    before = _resident()
    with tempfile.TemporaryDirectory() as folder, _Watched(parameters, Path(folder)) as updates:
        writing = 0.0
        for name in names:
            update = {key: chance.standard_normal(array.shape, np.float32) for key, array in parameters.items()}
            start = time.perf_counter()
            updates.append(name, update)
            writing += time.perf_counter() - start
        seconds = []
        for _ in range(REPEATS):
            aggregation.frozen = frozen
            start = time.perf_counter()
            aggregation.aggregate(parameters, updates, replies, signals)
            seconds.append(time.perf_counter() - start)
        return Measured(writing, median(seconds), (_resident(largest=True) - before) / 1024, updates.is_gram)


def _rule(group: str, name: str) -> Rule:
    return Rule(**yaml.safe_load((PROJECT / "conf" / group / f"{name}.yaml").read_text()))


def _adapter(layers: int) -> tuple[Arrays, Arrays]:
    """Return float32 parameters of LoRA and a head, and its factors A once more, for who keeps them frozen."""
    chance = np.random.default_rng(SEED)
    shapes = {"head.weight": (2, WIDTH), "head.bias": (2,)}
    for layer in range(layers):
        for module in ("query", "value"):
            prefix = f"backbone.encoder.layer.{layer}.attention.self.{module}"
            shapes |= {f"{prefix}.lora_A.weight": (RANK, WIDTH), f"{prefix}.lora_B.weight": (WIDTH, RANK)}
    arrays = {name: chance.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    return arrays, {name: array for name, array in arrays.items() if "lora_A" in name}


def _replies(names: list[str], study: Study, fingerprint: str) -> dict[str, TrainReply]:
    spent = PrivacySpent("patient", 1e-5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    sizes, steps = np.random.default_rng(SEED).integers(100, 10_000, len(names)).tolist(), study.training.local_steps
    return {
        name: TrainReply(name, 1, fingerprint, {}, size, steps, 1.0, spent)
        for name, size in zip(names, sizes, strict=True)
    }


def _signals(names: list[str]) -> Signals:
    """Return what every rule may ask for: losses, gaps, and the gap of all."""
    found, chance = Signals(positive=1), np.random.default_rng(SEED)
    found.losses = {
        name: Signal(float(loss), 0.01) for name, loss in zip(names, chance.random(len(names)), strict=True)
    }
    found.gaps = {name: Signal(float(gap), 0.01) for name, gap in zip(names, chance.random(len(names)), strict=True)}
    found.gap = Signal(0.5, 0.01)
    return found


def _resident(*, largest: bool = False) -> int:
    """Return this process's resident size in kB; or its largest one since the last time this was asked without."""
    if not largest:
        Path("/proc/self/clear_refs").write_text("5")
    kind = "VmHWM:" if largest else "VmRSS:"
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1])


_NOTES = (
    f"Seconds are wall time of one thread: writing the updates, and the median of {REPEATS} aggregations of them.",
    (
        "The file is read through the kernel's cache, which is not the process's memory; megabytes are what the "
        "largest resident size grows by, in a process of its own for each case, with the buffers that are read into."
    ),
    (
        "`linear` is the worst of the weighting rules that need no inner products, with the linear combiner. Memory "
        "growth is 1000 sites over 10, time growth 1000 sites over ten times 100. What grows are names and weights."
    ),
    "`gram` is the worst of the rules and combiners that look at every pair of updates; these grow with the square.",
)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print what one case takes.")
    parser.add_argument("weighting", choices=sorted(RULES))
    parser.add_argument("combining", choices=sorted(COMBINERS))
    parser.add_argument("sites", type=int)
    print(json.dumps(asdict(measured(**vars(parser.parse_args())))))

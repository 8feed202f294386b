"""What privacy costs in a step: time and peak memory, against the same step without it."""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from client_app.per_unit_gradients import Batch, loss, set_clipped_gradients
from client_app.private_step import SecureDPOptimizer
from fedfm.model.classifier import Classifier
from scripts.benchmarks.minilm import batch_of, minilm, random_states
from scripts.benchmarks.result import Benchmark, Result, Target
from scripts.engine.federation import PROJECT

SEED = 1
CLIP, NOISE, RATE = 0.1, 1.0, 1e-3
CASES = {"lora_b8": ("lora", 8, 64), "lora_b32": ("lora", 32, 128), "lora_b128": ("lora", 128, 64)}
FULL = {"full_b8": ("full", 8, 64), "full_b32": ("full", 32, 128)}
PAIRS = 9
MEMORY_RUNS = 3

BENCHMARK = Benchmark(
    name="private-step",
    what=(
        "CPU time and peak memory of a private step (clipped by patient, ChaCha20 noise, SGD with momentum) over the "
        "same step without privacy: MiniLM, forward and backward through all 6 layers, float32, one thread. LoRA of "
        "rank 8 on query and value with batches of 8 x 64, 32 x 128 and 128 x 64 notes x tokens; full: all 10.6 "
        "million parameters of the layers."
    ),
    targets={
        **{name: Target("<=", 1.05) for name in CASES},
        "full_b32": Target("<=", 1.25),
        "lora_b32_memory": Target("<=", 1.05),
        "full_b32_memory": Target("<=", 1.4),
    },
)

Step = Callable[[Classifier, Batch, torch.optim.Optimizer], None]


def measure() -> Result:
    """Time pairs of steps, one after the other in one process; measure each peak in a process of its own."""
    torch.set_num_threads(1)
    figures: dict[str, float] = {}
    for name, (adapter, size, tokens) in (CASES | FULL).items():
        times = _times(adapter, size, tokens)
        figures[name] = median(times["private"]) / median(times["plain"])
        figures[f"{name}_without_noise"] = median(times["clipped"]) / median(times["plain"])
        figures[f"{name}_plain_seconds"] = median(times["plain"])
    for name in ("lora_b32", "full_b32"):
        private, plain = (_peak(name, kind) for kind in ("private", "plain"))
        figures[f"{name}_memory"] = private / plain
        figures[f"{name}_plain_megabytes"] = plain
    return Result(figures=figures, seeds=(SEED,), notes=_NOTES)


def plain(model: Classifier, batch: Batch, optimizer: torch.optim.Optimizer) -> None:
    """Take a step without privacy on the mean loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss(model, batch) / len(batch.states))
    optimizer.step()


def clipped(model: Classifier, batch: Batch, optimizer: torch.optim.Optimizer) -> None:
    """Take a step on gradients clipped by patient, without noise."""
    optimizer.zero_grad()
    set_clipped_gradients(model, batch, max_grad_norm=CLIP, clipping="flat")
    optimizer.step()


def private(model: Classifier, batch: Batch, optimizer: torch.optim.Optimizer) -> None:
    """Take a private step."""
    noised = SecureDPOptimizer(
        optimizer, noise_multiplier=NOISE, max_grad_norm=CLIP, expected_batch_size=None, loss_reduction="sum"
    )
    noised.zero_grad()
    set_clipped_gradients(model, batch, max_grad_norm=CLIP, clipping="flat")
    noised.step()


STEPS: dict[str, Step] = {"plain": plain, "clipped": clipped, "private": private}


def _times(adapter: str, size: int, tokens: int) -> dict[str, list[float]]:
    model, batch, optimizer = _ready(adapter, size, tokens)
    for step in STEPS.values():
        step(model, batch, optimizer)
    found: dict[str, list[float]] = {name: [] for name in STEPS}
    for _ in range(PAIRS):
        for name, step in STEPS.items():
            start = time.process_time()
            step(model, batch, optimizer)
            found[name].append(time.process_time() - start)
    return found


def _ready(adapter: str, size: int, tokens: int) -> tuple[Classifier, Batch, torch.optim.Optimizer]:
    model = minilm(adapter)
    batch = batch_of(random_states([tokens] * size, seed=SEED), labels=model.labels, seed=SEED)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return model, batch, torch.optim.SGD(trained, lr=RATE / size, momentum=0.9)


def _peak(name: str, kind: str) -> float:
    command = [sys.executable, "-m", "scripts.benchmarks.private_step", name, kind]
    runs = [
        subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True) for _ in range(MEMORY_RUNS)
    ]
    return median(float(done.stdout) for done in runs)


def _growth(name: str, kind: str) -> float:
    """Return by how many megabytes the process grows over the loaded model in three steps."""
    torch.set_num_threads(1)
    model, batch, optimizer = _ready(*(CASES | FULL)[name])
    before = _largest()
    for _ in range(3):
        STEPS[kind](model, batch, optimizer)
    return (_largest() - before) / 1024


def _largest() -> int:
    """Return the largest resident size of this process in kB; unlike getrusage's it forgets the parent's."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1])


_NOTES = (
    f"Ratios of the medians of {PAIRS} steps of each kind, taken in turn in one process; CPU time.",
    f"Memory is the growth of the largest resident size over the loaded model, the median of {MEMORY_RUNS} processes.",
    (
        "`without noise` is the clipped step alone. For all parameters the rest is 10.6 million draws from ChaCha20 by "
        "Box and Muller in float64, the rounding to a grid and the sum; that time does not depend on the batch, so "
        "that it fades with more patients in a step."
    ),
    (
        "For all parameters the clipping itself adds, to each layer, products over pairs of tokens for the norms and "
        "one more pass over inputs and output gradients; the weight gradients cost what they cost without privacy."
    ),
)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print the megabytes that steps of one kind take.")
    parser.add_argument("name", choices=sorted(CASES | FULL))
    parser.add_argument("kind", choices=sorted(STEPS))
    arguments = parser.parse_args()
    print(_growth(arguments.name, arguments.kind))

"""A hospital's local training against the usual loop: padded notes, the whole model, Opacus's hooks."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from opacus.grad_sample import GradSampleHooks
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from client_app.memory import MOST
from client_app.private_step import Mechanism, SecureDPOptimizer
from client_app.training import Cohort, gather_gradients, micro_batches, tensors_of
from fedfm.examples import Example
from fedfm.model.classifier import Classifier
from fedfm.model.text import TextClassifier
from scripts.benchmarks.minilm import minilm
from scripts.benchmarks.result import Benchmark, Result, Target

SEED = 1
NOTES, LOGICAL, MICRO, LONGEST, EPOCHS = 256, 64, 16, 128, 10
CLIP, NOISE, RATE = 0.1, 1.0, 1e-3
WORDS = "pain fever cough stable night blood pressure heart rate lung clear chest left right day week"

BENCHMARK = Benchmark(
    name="local-epoch",
    what=(
        f"CPU time of local private training on {NOTES} notes (log-normal lengths, 43 tokens on average, at most "
        f"{LONGEST}), logical batches of {LOGICAL}, MiniLM with LoRA of rank 8 on query and value, one thread: the "
        f"usual loop (pad to the longest possible, micro-batches of {MICRO}, whole model, Opacus's hooks and noise) "
        "over this project's. "
        f"`top2 cached` trains the top 2 layers for {EPOCHS} epochs, and includes making the cache."
    ),
    targets={
        "all_layers_speedup": Target(">=", 2.0),
        "top2_cached_speedup": Target(">=", 4.0),
        "max_relative_difference": Target("<=", 1e-5),
    },
)


@dataclass(frozen=True)
class Way:
    """One of the two loops: ``step`` takes a private step on the notes of a logical batch."""

    step: Callable[[Sequence[int]], None]
    optimizer: DPOptimizer


@dataclass(frozen=True)
class Timed:
    """CPU seconds of both ways.

    Attributes:
        usual: An epoch of the usual loop.
        ours: An epoch of this project's loop.
        once: What this project does once before the epochs.
        difference: Largest distance of the clipped sums of a logical batch, relative to their norm.
    """

    usual: float
    ours: float
    once: float
    difference: float


def measure() -> Result:
    """Time both loops on the same logical batches, in turn."""
    torch.set_num_threads(1)
    every, top = _timed("lora", epochs=1), _timed("lora_top2", epochs=2)
    return Result(
        figures={
            "all_layers_speedup": every.usual / (every.once + every.ours),
            "top2_cached_speedup": EPOCHS * top.usual / (top.once + EPOCHS * top.ours),
            "max_relative_difference": max(every.difference, top.difference),
            "all_layers_epoch_seconds": every.ours,
            "top2_epoch_seconds": top.ours,
            "top2_cache_seconds": top.once,
        },
        seeds=(SEED,),
        notes=(
            "Noise is drawn and added in both loops; the clipped sums are compared before it.",
            f"Of the {EPOCHS} epochs with the cache two are measured, for both loops, and counted five times.",
        ),
    )


def notes(count: int) -> list[Example]:
    """Return notes of one-token words; lengths in tokens log-normal with median 40, from 8 to ``LONGEST``."""
    rng, words = np.random.default_rng(SEED), WORDS.split()
    lengths = np.clip(np.exp(rng.normal(np.log(40), 0.6, count)), 8, LONGEST).astype(int)
    texts = [" ".join(rng.choice(words, length - 2)) for length in lengths]  # and two special tokens
    return [Example(str(i), int(rng.integers(2)), text=text) for i, text in enumerate(texts)]


def epoch_of(model: Classifier, examples: Sequence[Example]) -> Callable[[], None]:
    """Return this project's private epoch over the examples, each a patient of its own: call it to take it."""
    labels = torch.tensor([example.label for example in examples])
    units = [np.array([i]) for i in range(len(examples))]
    way = _ours(model, Cohort(model.encode(examples), labels, units, torch.ones(len(examples))))

    def epoch() -> None:
        for batch in np.random.default_rng(SEED).permutation(len(examples)).reshape(-1, LOGICAL).tolist():
            way.step(batch)

    return epoch


def _timed(adapter: str, *, epochs: int) -> Timed:
    model = minilm(adapter)
    if not isinstance(model, TextClassifier):
        raise TypeError("MiniLM reads text")
    examples = notes(NOTES)
    labels = torch.tensor([example.label for example in examples])
    start = time.process_time()
    cohort = Cohort(model.encode(examples), labels, [np.array([i]) for i in range(NOTES)], torch.ones(NOTES))
    once = time.process_time() - start
    ways = {"usual": _usual(model, examples, labels), "ours": _ours(model, cohort)}
    difference = _difference(model, ways)
    seconds = dict.fromkeys(ways, 0.0)
    order = np.random.default_rng(SEED)
    for _ in range(epochs):
        for batch in order.permutation(NOTES).reshape(-1, LOGICAL).tolist():
            for name, way in ways.items():
                start = time.process_time()
                way.step(batch)
                seconds[name] += time.process_time() - start
    return Timed(seconds["usual"] / epochs, seconds["ours"] / epochs, once, difference)


def _ours(model: Classifier, cohort: Cohort) -> Way:
    mechanism = Mechanism(NOISE, CLIP, expected_units=LOGICAL)
    optimizer = SecureDPOptimizer(
        _sgd(model), noise_multiplier=NOISE, max_grad_norm=CLIP, expected_batch_size=None, loss_reduction="sum"
    )

    def step(chosen: Sequence[int]) -> None:
        optimizer.zero_grad()
        batches = [
            tensors_of(cohort, batch, "float32") for batch in micro_batches(cohort, np.array(chosen), MOST["cpu"])
        ]
        gather_gradients(model, batches, mechanism=mechanism, optimizer=optimizer)
        optimizer.step()

    return Way(step, optimizer)


def _usual(model: TextClassifier, examples: Sequence[Example], labels: Tensor) -> Way:
    """Opacus as it is used: hooks, notes padded to the longest possible, noise from torch."""
    tokens = model.tokenizer(
        [example.text for example in examples],
        padding="max_length",
        truncation=True,
        max_length=LONGEST,
        return_tensors="pt",
    )
    optimizer = DPOptimizer(
        _sgd(model), noise_multiplier=NOISE, max_grad_norm=CLIP, expected_batch_size=None, loss_reduction="sum"
    )

    def step(chosen: Sequence[int]) -> None:
        optimizer.zero_grad()
        with _hooks(model):
            parts = torch.split(torch.tensor(chosen), MICRO)
            for number, part in enumerate(parts, start=1):
                mask = tokens["attention_mask"][part]
                hidden = model.backbone(input_ids=tokens["input_ids"][part], attention_mask=mask).last_hidden_state
                pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
                loss = nn.functional.cross_entropy(model.head(pooled), labels[part], reduction="sum")
                loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
                if number < len(parts):
                    optimizer.signal_skip_step()
                    optimizer.step()
                    optimizer.zero_grad()
            optimizer.step()

    return Way(step, optimizer)


@contextmanager
def _hooks(model: nn.Module) -> Iterator[None]:
    hooks = GradSampleHooks(model, loss_reduction="sum")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
            yield
    finally:
        hooks.cleanup()


def _difference(model: nn.Module, ways: Mapping[str, Way]) -> float:
    """Return the largest distance of the clipped sums of a logical batch, over an epoch, relative to their norm."""
    largest = 0.0
    for batch in np.arange(NOTES).reshape(-1, LOGICAL).tolist():
        usual, ours = (_clipped_sum(model, way, batch) for way in ways.values())
        largest = max(largest, float((usual - ours).norm() / usual.norm()))
    return largest


def _clipped_sum(model: nn.Module, way: Way, batch: Sequence[int]) -> Tensor:
    (group,) = way.optimizer.param_groups
    way.optimizer.noise_multiplier, group["lr"], group["momentum"] = 0.0, 0.0, 0.0
    way.step(batch)
    way.optimizer.noise_multiplier, group["lr"], group["momentum"] = NOISE, RATE, 0.9
    return torch.cat([parameter.grad.double().flatten() for parameter in _trained(model) if parameter.grad is not None])


def _sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(_trained(model), lr=RATE, momentum=0.9)


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]

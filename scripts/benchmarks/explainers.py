"""Every way to credit words beside the others on one model: what it costs, and whether it can be trusted."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from client_app.data.catalog import load_splits
from client_app.training import Cohort, fine_tune_openly
from fedfm.config.compose import compose_study, load_site
from fedfm.examples import Example
from fedfm.explain.attribution import Method
from fedfm.explain.deletion import credited_order, paired_deletions, random_order
from fedfm.explain.documents import Explained, explained
from fedfm.explain.passes import logits_of
from fedfm.explain.randomisation import rank_correlation_after
from fedfm.model.build import build_model
from fedfm.model.classifier import Classifier
from scripts.benchmarks.public_sites import public_folder
from scripts.benchmarks.result import Grid

Figures = NDArray[np.float64]

SEED = 1
LONGEST = 96
"""Tokens of a document, so that all methods can be measured in minutes."""

DOCUMENTS, REDRAWN = 12, 4
"""Test documents that are credited, and how many of them again after parameters are drawn anew."""

TRAINING, TESTED, STEPS, BATCH = 120, 40, 60, 32
"""Documents of each label that train and that are tested, at most; steps, and documents of a step."""

WAYS: Mapping[str, Method] = {
    "integrated gradients, 5 steps": Method(steps=5),
    "integrated gradients, 10 steps": Method(),
    "integrated gradients, 20 steps": Method(steps=20),
    "integrated gradients, 10 steps from the mask": Method(baseline="mask"),
    "integrated gradients, 10 steps from the mean": Method(baseline="mean"),
    "expected gradients, 10 draws": Method("expected_gradients"),
    "gradient x input": Method("gradient_input"),
    "gradient norm": Method("gradient_norm"),
    "occlusion": Method("occlusion"),
    "leave one out": Method("leave_one_out"),
    "attention rollout": Method("attention_rollout"),
}
"""Row of the table to what credits words there; from padding where nothing else is said."""

COLUMNS = (
    *("cost x forward", "comprehensiveness", "low", "high", "over random order, low", "sufficiency", "low", "high"),
    *("completeness error", "correlation, head anew", "correlation, all anew"),
)


@dataclass(frozen=True)
class Found:
    """The table of one data set.

    Attributes:
        grid: A row for each of ``WAYS``, and one for a random order.
        accuracy: Of the model, mean over labels, on test documents, in percent.
    """

    grid: Grid
    accuracy: float


def measure_explainers(data: str) -> Found:
    """Fine-tune MiniLM on all sites of a public data set together, and credit some of its test documents."""
    torch.set_num_threads(1)
    study = compose_study(
        [
            f"experiment={data}",
            "adapter=lora",
            "adapter.layers=2",
            "standardize=reference",
            f"model.max_tokens={LONGEST}",
        ]
    ).value
    splits = [load_splits(load_site(path), study.task) for path in sorted(public_folder(data).glob("*/site.yaml"))]
    model = build_model(study.model, study.adapter, study.task, seed=SEED)
    fine_tune(model, evenly([example for split in splits for example in split.train], TRAINING))
    tested = evenly([example for split in splits for example in split.test], TESTED)
    rows = compared(model, tested[:DOCUMENTS], redrawn=REDRAWN)
    return Found(Grid(f"{data}:", COLUMNS, rows), 100 * balanced_accuracy(model, tested))


def evenly(examples: Sequence[Example], each: int) -> list[Example]:
    """Return at most ``each`` examples of each label, the labels in turn."""
    order = np.random.default_rng(SEED).permutation(len(examples))
    of: dict[int, list[Example]] = {}
    for index in order:
        of.setdefault(examples[index].label, []).append(examples[index])
    return [of[label][number] for number in range(each) for label in sorted(of) if number < len(of[label])]


def fine_tune(model: Classifier, examples: Sequence[Example], *, steps: int = STEPS) -> None:
    """Take plain steps of Adam on the examples; no privacy, for public data."""
    cohort = Cohort(
        states=model.encode(examples),
        labels=torch.tensor([example.label for example in examples]),
        units=[np.array([index]) for index in range(len(examples))],
        weights=torch.ones(len(examples)),
    )
    share = min(1.0, BATCH / len(examples))
    usual = compose_study().value.training
    training = replace(usual, local_steps=steps, sample_rate=share, optimizer="adam", learning_rate=2e-3)
    coins = np.random.default_rng(SEED).random
    fine_tune_openly(model, cohort, training=training, micro_batch=BATCH, uniform=coins)


def compared(
    model: Classifier, examples: Sequence[Example], *, redrawn: int, ways: Mapping[str, Method] = WAYS
) -> dict[str, list[float | None]]:
    """Return the numbers of ``COLUMNS`` for a random order and for each way; all look at the same documents.

    Args:
        model: Fine-tuned.
        examples: Documents.
        redrawn: So many of them, the first ones, are credited again after parameters are drawn anew.
        ways: Row to method.
    """
    forward = median(_seconds(lambda: _forward(model, examples)) for _ in range(3))
    rows: dict[str, list[float | None]] = {}
    for name, method in ways.items():
        start = time.process_time()
        some = list(explained(model, examples, method))
        cost = (time.process_time() - start) / forward
        judged = _deleted(model, some)
        correlations = [_after(model, examples[:redrawn], method, parts) for parts in ("head", "all")]
        errors = [each.attributed.completeness_error for each in some]
        incomplete = [float(error) for error in errors if error is not None]
        over = judged["comprehensiveness"] - judged["random_order"]
        rows.setdefault("random order", [0.0, *_interval(judged["random_order"]), *[None] * 7])
        rows[name] = [
            cost,
            *_interval(judged["comprehensiveness"]),
            _interval(over)[1],
            *_interval(judged["sufficiency"]),
            median(incomplete) if incomplete else None,
            *correlations,
        ]
    return rows


def balanced_accuracy(model: Classifier, examples: Sequence[Example]) -> float:
    """Return the share of right answers, the mean over labels."""
    labels = np.array([example.label for example in examples])
    with torch.no_grad():
        right = model(model.encode(examples)).argmax(1).numpy() == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def _after(model: Classifier, examples: Sequence[Example], method: Method, parts: str) -> float:
    return float(rank_correlation_after(model, examples, method=method, parts=parts, seed=SEED).mean())


def _deleted(model: Classifier, some: Sequence[Explained]) -> dict[str, Figures]:
    """Return the figures of ``Deleted`` for all documents; a document's random order is the same for every way."""
    judged = {name: np.zeros(len(some)) for name in ("comprehensiveness", "random_order", "sufficiency")}
    for place, one in enumerate(some):
        orders = [credited_order(one.inputs, 0, one.credits)]
        random = [random_order(one.inputs, 0, seed=SEED + place)]
        found = paired_deletions(model, one.inputs, one.attributed.target, orders=orders, random=random)
        for name, figures in vars(found).items():
            judged[name][place] = figures.item()
    return judged


def _forward(model: Classifier, examples: Sequence[Example]) -> None:
    """Run the documents through the whole model once, those of a like length together."""
    inputs = model.inputs(examples)
    logits_of(model, lambda rows: inputs.values[rows], inputs.present)


def _seconds(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _interval(figures: Figures) -> tuple[float, float, float]:
    """Return the mean and its 95 % interval, by bootstrap over documents."""
    drawn = np.random.default_rng(SEED).integers(len(figures), size=(1000, len(figures)))
    low, high = np.quantile(figures[drawn].mean(1), [0.025, 0.975])
    return float(figures.mean()), float(low), float(high)

"""What it costs to look at a model's reasons, whether the figures are captum's, and which credits can be trusted."""

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from statistics import median

import numpy as np
import torch
from captum.attr import IntegratedGradients
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max
from torch import Tensor

from fedfm.examples import Example
from fedfm.explain.attribution import Method, attribute
from fedfm.explain.audit import Watched, audit
from fedfm.explain.robustness import infidelity, max_sensitivity, movements, subsets
from fedfm.model.classifier import Classifier, Inputs
from scripts.benchmarks import explainers, local_epoch
from scripts.benchmarks.minilm import minilm
from scripts.benchmarks.result import Benchmark, Result, Target

SEED = 1
AUDITED, REPEATED, COMPARED = 32, 3, 4
"""Documents of the light audit; how often audit and epoch are timed; documents whose figures captum computes too."""

DATA = ("icu_notes", "medical_abstracts")

WATCHED = Watched(shortcuts={"side": ["left", "right"]}, swaps={"side": {"left": "right"}})

BENCHMARK = Benchmark(
    name="explain",
    what=(
        f"`light audit epochs`: CPU time of one look at the reasons of {AUDITED} documents (integrated gradients at 10 "
        "steps, deletion of the credited words and of all others, a random order beside it, one exchange of words) "
        f"over that of a local private epoch of {local_epoch.NOTES} notes of the same lengths (43 tokens on average), "
        "MiniLM with LoRA of rank 8 in all layers, one thread. `captum max difference`: own integrated gradients, "
        f"infidelity and max-sensitivity on {COMPARED} of these notes against captum's, relative to the largest. "
        "The tables: every way to credit words, on MiniLM after fine-tuning."
    ),
    targets={"light_audit_epochs": Target("<=", 0.5), "captum_max_difference": Target("<=", 1e-4)},
)


def measure() -> Result:
    """Time audit and epoch in turn, compare with captum, then fill the table of each data set in its own process."""
    torch.set_num_threads(1)
    model, notes = minilm("lora"), local_epoch.notes(local_epoch.NOTES)
    audits, epochs = timed(model, notes)
    differences = captum_differences(model, notes[:COMPARED])
    with ProcessPoolExecutor(len(DATA), mp_context=get_context("spawn")) as pool:
        found = list(pool.map(explainers.measure_explainers, DATA))
    return Result(
        figures={
            "light_audit_epochs": median(audits) / median(epochs),
            "captum_max_difference": max(differences.values()),
            "light_audit_seconds": median(audits),
            "epoch_seconds": median(epochs),
            **{f"captum_{name}_difference": difference for name, difference in differences.items()},
            **{f"{data}_accuracy_percent": each.accuracy for data, each in zip(DATA, found, strict=True)},
        },
        seeds=(SEED,),
        notes=_NOTES,
        grids=tuple(each.grid for each in found),
    )


def timed(model: Classifier, notes: Sequence[Example], *, repeated: int = REPEATED) -> tuple[list[float], list[float]]:
    """Return CPU seconds of light audits and of local epochs, timed in turn.

    Args:
        model: MiniLM with an adapter; its parameters change, as an epoch changes them.
        notes: Of the epoch; the first of them are audited.
        repeated: How often.
    """
    epoch = local_epoch.epoch_of(model, notes)
    audits, epochs = [], []
    for number in range(repeated):
        start = time.process_time()
        audit(model, notes[:AUDITED], method=Method(), watched=WATCHED, rng=np.random.default_rng(number))
        audits.append(time.process_time() - start)
        start = time.process_time()
        epoch()
        epochs.append(time.process_time() - start)
    return audits, epochs


def captum_differences(model: Classifier, notes: Sequence[Example]) -> dict[str, float]:
    """Return the largest distance of each figure from captum's on the same notes, relative to captum's largest."""
    inputs, method = model.inputs(notes), Method()
    attributed = attribute(model, inputs, method)
    reference = IntegratedGradients(model.logits_from_inputs).attribute(
        inputs.values,
        baselines=inputs.baseline,
        target=attributed.target,
        additional_forward_args=(inputs.present,),
        n_steps=method.steps,
        method="riemann_middle",
    )
    removed, moved = subsets(inputs, range(len(notes))), movements(inputs, range(len(notes)))
    return {
        "integrated_gradients": _distance(attributed.credits, reference.sum(-1)),
        "infidelity": _distance(
            torch.from_numpy(infidelity(model, inputs, attributed, removed)),
            _captum_infidelity(model, inputs, attributed.credits, target=attributed.target, removed=removed),
        ),
        "sensitivity": _distance(
            torch.from_numpy(max_sensitivity(model, inputs, method=method, by=moved)),
            _captum_sensitivity(model, inputs, method, moved),
        ),
    }


def _captum_infidelity(
    model: Classifier, inputs: Inputs, credits_: Tensor, *, target: Tensor, removed: Tensor
) -> Tensor:
    """Return captum's figure of the credits as a forecast of what a unit's way to its baseline changes."""

    def of_inclusion(kept: Tensor, values: Tensor, baseline: Tensor, present: Tensor) -> Tensor:
        return model.logits_from_inputs(baseline + kept.unsqueeze(-1) * (values - baseline), present)

    found: Tensor = captum_infidelity(
        of_inclusion,
        lambda kept: (_by_example(removed), kept - _by_example(removed)),
        torch.ones_like(credits_),
        credits_,
        additional_forward_args=(inputs.values, inputs.baseline, inputs.present),
        target=target,
        n_perturb_samples=len(removed),
    )
    return found


def _captum_sensitivity(model: Classifier, inputs: Inputs, method: Method, moved: Tensor) -> Tensor:
    def explanation(values: tuple[Tensor, ...]) -> tuple[Tensor]:
        times = len(values[0]) // len(inputs.values)
        repeated = {
            name: getattr(inputs, name).repeat_interleave(times, 0)
            for name in ("baseline", "present", "removable", "words")
        }
        return (attribute(model, replace(inputs, values=values[0], **repeated), method).credits,)

    found: Tensor = sensitivity_max(
        explanation, inputs.values, lambda values: (values + _by_example(moved),), n_perturb_samples=len(moved)
    )
    return found


def _by_example(drawn: Tensor) -> Tensor:
    """Return the perturbations of the first example, then those of the second, as captum repeats examples."""
    return drawn.transpose(0, 1).flatten(0, 1)


def _distance(own: Tensor, other: Tensor) -> float:
    return float((own - other).abs().max() / other.abs().max())


_NOTES = (
    (
        f"Tables: {explainers.DOCUMENTS} test documents of at most {explainers.LONGEST} tokens, labels in turn; MiniLM "
        f"with LoRA in the top two layers and the head, fine-tuned without privacy for {explainers.STEPS} steps of "
        f"{explainers.BATCH} documents, at most {explainers.TRAINING} of each label; `accuracy` is the mean over "
        f"labels on at most {explainers.TESTED} test documents of each. Low and high are 95 % intervals by bootstrap "
        "over documents; `over random order, low` is that of the paired difference, above 0 where credits explain "
        "anything."
    ),
    (
        "`cost x forward` is CPU time over that of one forward pass of the same documents, in one process. "
        "`completeness error` is the median. `correlation` is the rank correlation of the size of credits with that "
        f"after parameters are drawn anew, mean over {explainers.REDRAWN} documents: near 1 where credits do not "
        "depend on them, as those of attention rollout cannot depend on the head."
    ),
)

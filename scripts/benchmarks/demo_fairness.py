"""The label gap planted in the synthetic hospitals, and what reweighting at the site does about it.

Rounds, steps, step length and clipping norm were chosen on hospitals of another seed (1): without privacy {8x20, 8x40},
on samples of a fifth of the patients; at epsilon = 3, in a model of the algorithm in numpy, {8x4, 6x10}, clipping
{0.5, 1, 2, 4}, step length {1, 2, 4}. ``clipped`` was not searched.
"""

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from sklearn.metrics import roc_auc_score

from client_app.data.catalog import load_splits
from fedfm.config.compose import compose_study, load_site
from fedfm.examples import Example
from fedfm.model.build import build_model
from scripts.benchmarks.baselines import linear_probe
from scripts.benchmarks.public_sites import copy_divided
from scripts.benchmarks.result import Benchmark, Result, Target
from scripts.benchmarks.scoring import Scores, federate, kept_states
from scripts.public_data.site_folders import OPEN_POLICY
from server_app.demo_data import LABEL_GAP, make_demo_data
from server_app.simulate import find_sites

SEEDS = (11, 12, 13, 14, 15)
SITES, PATIENTS = 4, 1000
"""Half of the patients of each hospital train, the other half is tested."""

STUDY = [
    *("model=minilm", "model.max_tokens=64", "adapter=head", "standardize=global", "rounds=8"),
    *("evaluation=exact", "evaluation.audit_loss=false", "explainability=none"),
]
_LONG = ["privacy=none", "training.local_steps=20"]
STUDIES = {
    "epsilon3": [*STUDY, "privacy.epsilon=3", "privacy.max_grad_norm=2", "training.learning_rate=2"],
    "clipped": [*STUDY, *_LONG, "privacy.max_grad_norm=0.1", "training.learning_rate=0.5"],
    "open": [*STUDY, *_LONG, "privacy.max_grad_norm=null", "training.learning_rate=0.5"],
}
"""Those without privacy come last: a site has nothing left to give after it."""

REWEIGHTED = ["reweighting=kamiran_calders", "reweighting.params.attribute=sex"]

BENCHMARK = Benchmark(
    name="demo-fairness",
    what=(
        f"Four synthetic hospitals where {LABEL_GAP:.0%} of the women who deteriorate are recorded as recovered: how "
        "many more of the men's deteriorations than of the women's a model finds (equal opportunity, in points, over "
        "the test patients of all hospitals), without and with reweighting at the site (Kamiran and Calders), and what "
        "that costs in accuracy. Judged by the recorded outcome, which is all that a hospital has; `reviewed` is the "
        "true one. A linear probe on MiniLM, without privacy and at patient-level epsilon = 3."
    ),
    targets={"gap_ratio": Target("<=", 0.5), "accuracy_loss_points": Target("<=", 1.0)},
)

Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """What a model says of P test patients.

    Attributes:
        female: bool[P].
        outcomes: ``recorded`` and ``reviewed`` to bool[P], deteriorated.
        called: float64[P], share of the patient's notes that are called deteriorated.
    """

    female: NDArray[np.bool_]
    outcomes: Mapping[str, NDArray[np.bool_]]
    called: NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """The answers without and with reweighting, of the same patients."""

    without: Answers
    reweighted: Answers


def measure() -> Result:
    """Make hospitals of each seed and run every study there, without and with reweighting; a process for each seed."""
    with tempfile.TemporaryDirectory() as folder:
        context = get_context("spawn")
        with ProcessPoolExecutor(2, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            jobs = [pool.submit(measure_seed, Path(folder) / str(seed), seed) for seed in SEEDS]
            found = [job.result() for job in jobs]
    of = {name: [pairs[name] for _, pairs in found] for name in STUDIES}
    figures = {
        f"{prefix}{outcome_prefix}{name}": value
        for study, prefix in (("open", ""), ("epsilon3", "epsilon3_"), ("clipped", "clipped_"))
        for outcome, outcome_prefix in (("recorded", ""), ("reviewed", "reviewed_"))
        for name, value in figures_of(of[study], outcome).items()
    }
    return Result(
        figures={**figures, "sex_from_notes_auroc": mean(sex for sex, _ in found)},
        seeds=SEEDS,
        notes=(*(intervals(name, of[name]) for name in ("open", "epsilon3", "clipped")), *_NOTES),
    )


def measure_seed(work: Path, seed: int) -> tuple[float, dict[str, Pair]]:
    """Return how well sex can be told from notes (AUROC of a linear probe), and each study's answers.

    Args:
        work: Where hospitals and results go.
        seed: Of the hospitals and the first head.
    """
    sites = find_sites(_hospitals(work, seed), site_file="site.yaml")
    pairs = {}
    for name, study in STUDIES.items():
        runs = {
            kind: federate(sites, overrides=[*study, *extra, f"seed={seed}"], results=work / f"{name}-{kind}")
            for kind, extra in (("without", []), ("reweighted", REWEIGHTED))
        }
        reviewed = _reviewed(sites)
        pairs[name] = Pair(**{kind: answers_of(list(run.values()), reviewed) for kind, run in runs.items()})
    return _sex_from_notes(sites), pairs


def answers_of(sites: Sequence[Scores], reviewed: Mapping[str, bool]) -> Answers:
    """Return one answer for each patient, by the mean over its notes.

    Args:
        sites: Test notes of each site, with patients and their sex.
        reviewed: Patient to whether it deteriorated.
    """
    notes = pd.DataFrame(
        {
            "patient": [patient for site in sites for patient in site.patients],
            "female": np.concatenate([site.groups["sex"] == "female" for site in sites]),
            "recorded": np.concatenate([site.labels == 1 for site in sites]),
            "called": np.concatenate([site.scores >= 0.5 for site in sites]),
        }
    )
    patients = notes.groupby("patient").mean()
    outcomes = {
        "recorded": patients["recorded"].to_numpy() > 0,
        "reviewed": np.array([reviewed[str(patient)] for patient in patients.index]),
    }
    return Answers(patients["female"].to_numpy() > 0, outcomes, patients["called"].to_numpy(np.float64))


def gap(answers: Answers, outcome: str, weights: Weights) -> float:
    """Return how much larger the share of men's deteriorations that is found is than women's, in points."""
    positive = answers.outcomes[outcome]
    men, women = (
        np.average(answers.called[positive & side], weights=weights[positive & side])
        for side in (~answers.female, answers.female)
    )
    return float(100 * (men - women))


def accuracy(answers: Answers, outcome: str, weights: Weights) -> float:
    """Return the share of patients with the right answer, in percent."""
    right = np.where(answers.outcomes[outcome], answers.called, 1 - answers.called)
    return float(100 * np.average(right, weights=weights))


def figures_of(pairs: Sequence[Pair], outcome: str, weights: Sequence[Weights] | None = None) -> dict[str, float]:
    """Return the figures of one study, means over the seeds.

    Args:
        pairs: One for each seed.
        outcome: ``recorded`` or ``reviewed``.
        weights: How often each patient counts; once where there are none.
    """
    counted = weights or [np.ones(len(pair.without.called)) for pair in pairs]
    measured = list(zip(pairs, counted, strict=True))
    without = mean(gap(pair.without, outcome, times) for pair, times in measured)
    reweighted = mean(gap(pair.reweighted, outcome, times) for pair, times in measured)
    before = mean(accuracy(pair.without, outcome, times) for pair, times in measured)
    after = mean(accuracy(pair.reweighted, outcome, times) for pair, times in measured)
    return {
        "gap_without": without,
        "gap_with": reweighted,
        "gap_ratio": abs(reweighted) / abs(without),
        "accuracy_loss_points": before - after,
    }


def intervals(name: str, pairs: Sequence[Pair]) -> str:
    """Return the 95 % intervals of a study's figures, by bootstrap over seeds and, within them, patients."""
    rng = np.random.default_rng(1)
    draws = []
    for _ in range(_DRAWS):
        chosen = [pairs[index] for index in rng.integers(0, len(pairs), len(pairs))]
        times = [rng.multinomial(len(p.without.called), _evenly(p)).astype(np.float64) for p in chosen]
        draws.append(figures_of(chosen, "recorded", times))
    ends = {key: np.quantile([draw[key] for draw in draws], [0.025, 0.975]) for key in draws[0]}
    told = "; ".join(f"{key.replace('_', ' ')} {low:.2f} to {high:.2f}" for key, (low, high) in ends.items())
    return f"{name}, 95 % intervals over seeds and patients, recorded outcome: {told}."


_DRAWS = 1000


def _evenly(pair: Pair) -> Weights:
    patients = len(pair.without.called)
    return np.full(patients, 1 / patients)


def _hospitals(work: Path, seed: int) -> Path:
    """Return hospitals that accept studies without privacy, for their patients are invented."""
    make_demo_data(work / "made", sites=SITES, patients=PATIENTS, seed=seed)
    divided = copy_divided(
        work / "made", work / "sites", part_of=lambda patient: "test" if int(patient[1:]) % 2 else "train"
    )
    for file in sorted(divided.glob("*/site.yaml")):
        content = OmegaConf.load(file)
        OmegaConf.update(content, "policy", OPEN_POLICY, merge=False)
        OmegaConf.save(content, file)
    return divided


def _reviewed(sites: Mapping[str, Path]) -> dict[str, bool]:
    tables = [pd.read_csv(path.parent / "cohort.csv") for path in sites.values()]
    return {
        str(patient): bool(outcome)
        for table in tables
        for patient, outcome in zip(table["mrn"], table["outcome_reviewed"], strict=True)
    }


def _sex_from_notes(sites: Mapping[str, Path]) -> float:
    """Return how well a linear probe on the kept states tells women's test notes from men's."""
    study = compose_study(STUDIES["open"]).value
    parts: dict[str, list[tuple[NDArray[np.float32], list[bool]]]] = {"train": [], "test": []}

    def encode(chosen: Sequence[Example]) -> list[torch.Tensor]:
        return build_model(study.model, study.adapter, study.task, seed=1).encode(chosen)

    for path in sites.values():
        site = load_site(path)
        splits = load_splits(site, study.task)
        for part, examples in (("train", splits.train), ("test", splits.test)):
            states = torch.stack(kept_states(site, study, examples, encode)).numpy()
            parts[part].append((states, [example.groups["sex"] == "female" for example in examples]))
    (x, sex), (held, held_sex) = (map(np.concatenate, zip(*parts[part], strict=True)) for part in ("train", "test"))
    return float(roc_auc_score(held_sex, linear_probe().fit(x, sex).decision_function(held)))


_NOTES = (
    (
        "The model sees sex: `sex from notes` is the AUROC of a linear probe on the same frozen states. Of the women "
        "who deteriorate, those who are recorded are drawn by chance, so that the gap by the recorded outcome "
        "estimates the gap by the true one."
    ),
    (
        "Within a hospital reweighting makes label and sex look independent; the women whose deterioration is not "
        "recorded stay in the training data as recovered, and so a part of the gap stays."
    ),
    (
        "`clipped` is without privacy, each patient's gradient clipped at 0.1, the default norm: the weight of a "
        "patient moves its gradient, and clipping takes that away again. Reweighting needs a clipping norm that "
        "most gradients stay below (here 2 at epsilon = 3), which costs noise."
    ),
    "The noise of a private run cannot be seeded.",
)

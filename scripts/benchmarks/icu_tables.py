"""Four kinds of ICU, death in hospital from 48 hours of measurements: logistic regression on 75 columns.

Sets a and b of PhysioNet/CinC 2012: a trains, b tests. Choices were made by 3-fold cross-validation inside set a, by
AUROC over the patients of all sites, in a model of the algorithm in numpy with exact statistics: columns {all five of
each variable; last and mean; last, mean and count; mean; last, min and max}, marks of missing values {none, 0.3, 1},
standardisation {reference, global}, rounds x steps {5x2, 5x4, 10x1, 10x2, 10x4, 10x10}, clipping {0.3, 1, 3}, step
length {0.02 ... 8}; the columns for epsilon = 1 and 3, the step length for each epsilon. Then, with the real apps, the
share of the budget for the statistics {0.2, 0.4, 0.6, 0.7, 0.8} at epsilon = 1 and 3.
"""

import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import mean

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from client_app.data.catalog import load_splits
from client_app.site import delta
from fedfm.config.compose import compose_study, load_site
from scripts.benchmarks.public_sites import copy_sites, public_folder
from scripts.benchmarks.result import Benchmark, Result, Target
from scripts.benchmarks.scoring import auroc, federate, stated
from server_app.simulate import find_sites

SEEDS = (1, 2, 3, 4, 5)
STUDY = ["experiment=icu_tables", "evaluation=exact"]
OVERRIDES = {
    "epsilon1": [*STUDY, "privacy.epsilon=1", "training.learning_rate=2"],
    "epsilon3": [*STUDY, "privacy.epsilon=3", "training.learning_rate=4"],
    "epsilon8": [*STUDY, "privacy.epsilon=8", "training.learning_rate=8"],
    "open": [*STUDY, "privacy=none", "privacy.max_grad_norm=3", "training.learning_rate=8"],
}
"""The study without privacy comes last: a site has nothing left to give after it."""

BENCHMARK = Benchmark(
    name="icu-tables",
    what=(
        "Death in hospital from 48 hours of measurements (PhysioNet 2012, sets a and b, 8,000 stays, four kinds of ICU "
        "as sites): AUROC over the test patients of all sites. Logistic regression on the last and mean value of 36 "
        "variables, standardised by private pooled statistics; at patient-level epsilon = 1, 3, 8, statistics "
        "included, and without privacy."
    ),
    targets={
        "federated_auroc": Target(">=", 0.85),
        "epsilon1_loss_points": Target("<=", 4.0),
        "epsilon3_loss_points": Target("<=", 2.0),
        "epsilon8_loss_points": Target("<=", 1.0),
        "largest_delta_times_patients": Target("<=", 0.1),
    },
)


def measure() -> Result:
    """Run every budget with every seed, each seed in a process of its own, and the pooled model."""
    source = public_folder("icu_tables")
    with tempfile.TemporaryDirectory() as folder:
        context = get_context("spawn")
        with ProcessPoolExecutor(2, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            jobs = [pool.submit(measure_seed, source, Path(folder) / str(seed), seed) for seed in SEEDS]
            found = [job.result() for job in jobs]
    of = {name: [each[name] for each in found] for name in OVERRIDES}
    losses = {
        f"{name}_loss_points": 100 * (mean(of["open"]) - mean(values)) for name, values in of.items() if name != "open"
    }
    return Result(
        figures={
            "federated_auroc": mean(of["open"]),
            **{f"{name}_auroc": mean(values) for name, values in of.items() if name != "open"},
            **losses,
            "pooled_reference_auroc": _pooled(source),
            **{name: mean([each[name] for each in found]) for name in found[0] if name.startswith("epsilon3_auroc_")},
            "largest_delta_times_patients": _delta_times_patients(source),
        },
        seeds=SEEDS,
        notes=(
            "95 % intervals over seeds: " + "; ".join(stated(name, values) for name, values in of.items()) + ".",
            *_NOTES,
        ),
    )


def measure_seed(source: Path, work: Path, seed: int) -> dict[str, float]:
    """Return the AUROC of each budget over all sites, and at epsilon 3 for each site."""
    found: dict[str, float] = {}
    for name, overrides in OVERRIDES.items():
        sites = find_sites(copy_sites(source, work / name), site_file="site.yaml")
        scores = federate(sites, overrides=[*overrides, f"seed={seed}"], results=work / f"{name}-results")
        found[name] = auroc(scores.values())
        if name == "epsilon3":
            found |= {f"epsilon3_auroc_{site}".replace("-", "_"): auroc([of_site]) for site, of_site in scores.items()}
    return found


def _pooled(source: Path) -> float:
    """Return the AUROC of logistic regression on the same columns of all sites together, which no site could fit."""
    study = compose_study(STUDY).value
    names, scaler = [column.name for column in study.task.columns], StandardScaler()
    tables = [pd.read_csv(path) for path in sorted(source.glob("*/cohort.csv"))]
    labels = {str(value): label for value, label in _label_map(source).items()}
    every = pd.concat(tables, ignore_index=True)
    outcome = (every[_label_column(source)].astype(str).map(labels) == study.task.positive).to_numpy()
    trains = (every["split"] == "train").to_numpy()
    values = scaler.fit(every[names][trains]).transform(every[names])
    model = make_pipeline(LogisticRegression(C=0.01, max_iter=2000))
    model.fit(np.nan_to_num(values[trains]), outcome[trains])
    return float(roc_auc_score(outcome[~trains], model.decision_function(np.nan_to_num(values[~trains]))))


def _label_map(source: Path) -> dict[str, str]:
    return dict(load_site(next(iter(sorted(source.glob("*/site.yaml"))))).data.label_map)


def _label_column(source: Path) -> str:
    return load_site(next(iter(sorted(source.glob("*/site.yaml"))))).data.label


def _delta_times_patients(source: Path) -> float:
    """Return the study's delta times the training patients of the largest site; at most 0.1 is asked."""
    study = compose_study(STUDY).value
    sites = [load_site(path) for path in sorted(source.glob("*/site.yaml"))]
    patients = [len({example.patient for example in load_splits(site, study.task).train}) for site in sites]
    return max(patients) * delta(sites[0], study)


_NOTES = (
    (
        "`pooled reference` is logistic regression (C = 0.01) on the same 75 columns of all sites together, "
        "standardised by their exact statistics, which no site could compute."
    ),
    (
        "Every budget includes the round of statistics (three fifths of epsilon). The noise of a private run cannot be "
        "seeded."
    ),
    (
        "Without privacy the steps, clipping and columns are those of the private study, chosen for few noised steps; "
        "more columns and steps do not help there: they overfit (see the benchmark's docstring)."
    ),
)

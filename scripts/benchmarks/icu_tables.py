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
from sklearn.preprocessing import StandardScaler

from client_app.data.catalog import load_splits
from client_app.data.groups import group_memberships
from client_app.site import delta
from fedfm.config.compose import compose_study, load_site
from fedfm.config.site import Data
from scripts.benchmarks import by_group
from scripts.benchmarks.public_sites import copy_sites, public_folder
from scripts.benchmarks.result import Benchmark, Result, Target
from scripts.benchmarks.scoring import Scores, auroc, federate, stated
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
    of = {name: [auroc(each[name].values()) for each in found] for name in OVERRIDES}
    pooled = _pooled(source)
    over_sites = {name: [by_group.joined([*each[name].values()]) for each in found] for name in ("open", "epsilon3")}
    groups = by_group.reported(over_sites, pooled)
    losses = {
        f"{name}_loss_points": 100 * (mean(of["open"]) - mean(values)) for name, values in of.items() if name != "open"
    }
    return Result(
        figures={
            "federated_auroc": mean(of["open"]),
            **{f"{name}_auroc": mean(values) for name, values in of.items() if name != "open"},
            **losses,
            "pooled_reference_auroc": auroc([pooled]),
            **{
                f"epsilon3_auroc_{site}".replace("-", "_"): mean(auroc([each["epsilon3"][site]]) for each in found)
                for site in found[0]["epsilon3"]
            },
            **groups.figures,
            "largest_delta_times_patients": _delta_times_patients(source),
        },
        seeds=SEEDS,
        notes=(
            "95 % intervals over seeds: " + "; ".join(stated(name, values) for name, values in of.items()) + ".",
            *groups.notes,
            *_NOTES,
        ),
        grids=(groups.grid,),
    )


def measure_seed(source: Path, work: Path, seed: int) -> dict[str, dict[str, Scores]]:
    """Return the scores of each site's test patients at each budget: budget to site to scores."""
    found = {}
    for name, overrides in OVERRIDES.items():
        sites = find_sites(copy_sites(source, work / name), site_file="site.yaml")
        found[name] = federate(sites, overrides=[*overrides, f"seed={seed}"], results=work / f"{name}-results")
    return found


def _pooled(source: Path) -> Scores:
    """Return the scores of logistic regression on the same columns of all sites together, which no site could fit."""
    study, scaler = compose_study(STUDY).value, StandardScaler()
    names, data = [column.name for column in study.task.columns], _data(source)
    every = pd.concat([pd.read_csv(path) for path in sorted(source.glob("*/cohort.csv"))], ignore_index=True)
    labels = {str(value): label for value, label in data.label_map.items()}
    outcome = (every[data.label].astype(str).map(labels) == study.task.positive).to_numpy()
    trains = (every["split"] == "train").to_numpy()
    values = np.nan_to_num(scaler.fit(every[names][trains]).transform(every[names]))
    model = LogisticRegression(C=0.01, max_iter=2000).fit(values[trains], outcome[trains])
    memberships = group_memberships(every[~trains], data)
    found = Scores(
        labels=outcome[~trains].astype(np.int64),
        scores=model.decision_function(values[~trains]),
        patients=every[data.patient][~trains].astype(str).tolist(),
        groups={name: np.array([each.get(name, "") for each in memberships]) for name in data.groups},
    )
    return by_group.joined([found])


def _data(source: Path) -> Data:
    """Return how the sites' tables are read, which is the same for all."""
    return load_site(next(iter(sorted(source.glob("*/site.yaml"))))).data


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

"""Heart disease under every standardisation and weighting rule, and the choice among them on training patients.

A fifth of each hospital's training patients are its audit patients here, for all rules alike: they are where losses
and gaps come from. Every rule has the parameters of its file in ``conf/weighting``.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, pvariance

import numpy as np
import pandas as pd
import torch
from omegaconf import OmegaConf
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from client_app.data.split import hash_to_unit
from scripts.benchmarks.flamby import Centre
from scripts.benchmarks.public_sites import copy_divided
from scripts.benchmarks.result import Grid
from scripts.benchmarks.scoring import Scores, accuracy, auroc, federate, half_width
from server_app.simulate import find_sites
from server_app.weighting.rules import RULES

STUDY = ["experiment=heart_disease", "privacy=none", "evaluation=exact", "evaluation.groups=false", "min_sites=4"]
STANDARDS = ("site", "reference", "global")
FOLDS = 5
_AUDIT = 0.2

Run = Mapping[str, Scores]
"""Site to the scores of its test patients."""


@dataclass(frozen=True)
class Cell:
    """One standardisation and one rule.

    Attributes:
        tested: On the test patients, one run for each seed.
        validated: Mean-site accuracy on each fold of the training patients.
    """

    tested: Sequence[Run]
    validated: Sequence[float]


@dataclass(frozen=True)
class Columns:
    """What the table says of a cell; means over the seeds.

    Attributes:
        validated: Mean-site accuracy in cross-validation inside the training patients.
        mean: Mean-site accuracy.
        half_width: Half its 95 % interval over seeds.
        worst: Accuracy of the worst site.
        variance: Variance of the accuracies over sites, in points squared.
        pooled_auroc: AUROC over the patients of all sites.
        mean_auroc: Mean over sites of their own AUROC.
        worst_auroc: The smallest of them.
        gained: Sites whose accuracy, mean over the seeds, is above that of their own model.
    """

    validated: float
    mean: float
    half_width: float
    worst: float
    variance: float
    pooled_auroc: float
    mean_auroc: float
    worst_auroc: float
    gained: int


def measure(
    source: Path, work: Path, *, seeds: Sequence[int], rules: Sequence[str] = tuple(RULES)
) -> dict[tuple[str, str], Cell]:
    """Run every cell, two at a time; standardisation and rule to what came of it."""
    context = get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        jobs = {
            (standard, rule): pool.submit(measure_cell, source, work / f"{standard}-{rule}", (standard, rule), seeds)
            for standard in STANDARDS
            for rule in rules
        }
        return {key: job.result() for key, job in jobs.items()}


def measure_cell(source: Path, work: Path, key: tuple[str, str], seeds: Sequence[int]) -> Cell:
    """Run one standardisation and rule: on the test patients with each seed, and on each fold of the others."""
    standard, rule = key
    study = [*STUDY, f"standardize={standard}", f"weighting={rule}"]
    sites = _copies(source, work / "tested", divided(source))
    runs = [_run(sites, [*study, f"seed={seed}"], work / f"results-{seed}") for seed in seeds]
    folds = []
    for fold in range(FOLDS):
        held = held_out(source, fold)
        sites = _copies(source, work / f"fold-{fold}", divided(source, held))
        folds.append(validated(_run(sites, study, work / f"fold-results-{fold}"), held))
    return Cell(runs, folds)


def divided(source: Path, held: Set[str] = frozenset()) -> dict[str, str]:
    """Return patient to part: test for the published test patients and those held out, train or audit for others."""
    return {
        patient: "test" if part == "test" or patient in held else _train_or_audit(patient)
        for patient, part, _ in _patients(source)
    }


def held_out(source: Path, fold: int) -> set[str]:
    """Return the training patients of one fold, a fifth of each hospital's and of each outcome's."""
    training = [(patient, stratum) for patient, part, stratum in _patients(source) if part == "train"]
    patients, strata = zip(*training, strict=True)
    parts = list(StratifiedKFold(FOLDS, shuffle=True, random_state=1).split(patients, strata))
    return {patients[index] for index in parts[fold][1]}


def validated(run: Run, held: Set[str]) -> float:
    """Return mean-site accuracy on the patients held out; the published test patients are not looked at."""

    def of(found: Scores) -> float:
        chosen = np.isin(np.array(found.patients), sorted(held))
        return accuracy(Scores(found.labels[chosen], found.scores[chosen]))

    return mean(map(of, run.values()))


def alone(centres: Mapping[str, Centre]) -> dict[str, float]:
    """Return the accuracy of logistic regression on each hospital's own training patients, its own test patients'.

    Where all training patients have one outcome, that is the answer for everybody.
    """

    def of(centre: Centre) -> float:
        (x, y), (held_out, outcome) = centre.train, centre.test
        if len(set(y.tolist())) == 1:
            return float((outcome == y[0]).mean())
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, y)
        return float(model.score(held_out, outcome))

    return {site: of(centre) for site, centre in centres.items()}


def columns_of(cell: Cell, own: Mapping[str, float]) -> Columns:
    """Return what the table says of a cell.

    Args:
        cell: Of five seeds.
        own: Site to the accuracy of its own model.
    """
    sites = [{site: accuracy(found) for site, found in run.items()} for run in cell.tested]
    aurocs = [[auroc([found]) for found in run.values()] for run in cell.tested]
    gained = [site for site in own if mean(each[site] for each in sites) > own[site]]

    def over_seeds(of: Callable[[Sequence[float]], float]) -> float:
        return mean(of(list(each.values())) for each in sites)

    return Columns(
        validated=mean(cell.validated),
        mean=over_seeds(mean),
        half_width=half_width([mean(each.values()) for each in sites]),
        worst=over_seeds(min),
        variance=over_seeds(lambda each: pvariance([100 * one for one in each])),
        pooled_auroc=mean(auroc(run.values()) for run in cell.tested),
        mean_auroc=mean(map(mean, aurocs)),
        worst_auroc=mean(map(min, aurocs)),
        gained=len(gained),
    )


def chosen(cells: Mapping[tuple[str, str], Cell]) -> tuple[str, str]:
    """Return the standardisation and rule of the best mean-site accuracy on held-out training patients."""
    return max(cells, key=lambda key: mean(cells[key].validated))


def grid(cells: Mapping[tuple[str, str], Cell], own: Mapping[str, float]) -> Grid:
    """Return the table of all cells."""
    rows = {key: columns_of(cell, own) for key, cell in cells.items()}
    names = ("cross-validated", "mean", "±", "worst", "variance", "pooled AUROC", "mean AUROC", "worst AUROC")
    return Grid(
        "Accuracy of the hospitals (mean, half its interval over seeds, worst, variance in points squared) and AUROC "
        f"by standardisation and weighting rule; how many of the {len(own)} hospitals are more accurate than alone:",
        (*names, "gained"),
        {
            f"{standard}, {rule}": tuple(float(number) for number in vars(row).values())
            for (standard, rule), row in rows.items()
        },
    )


def _run(sites: Path, study: Sequence[str], results: Path) -> Run:
    return federate(find_sites(sites, site_file="site.yaml"), overrides=study, results=results)


def _copies(source: Path, to: Path, part_of: Mapping[str, str]) -> Path:
    """Return copies that take part with few patients, and hand out small counts: the rules hear them, all is public."""
    for file in sorted(copy_divided(source, to, part_of=part_of.__getitem__).glob("*/site.yaml")):
        content = OmegaConf.load(file)
        OmegaConf.update(content, "policy", {"small_cells": "none", "min_patients": 10})
        OmegaConf.save(content, file)
    return to


def _patients(source: Path) -> list[tuple[str, str, str]]:
    """Return each patient, its published part, and its hospital and outcome."""
    tables = {path.parent.name: pd.read_csv(path) for path in sorted(source.glob("*/cohort.csv"))}
    return [
        (str(row["patient"]), str(row["split"]), f"{site} {row['disease']}")
        for site, table in tables.items()
        for row in table.to_dict("records")
    ]


def _train_or_audit(patient: str) -> str:
    return "audit" if hash_to_unit(patient, "heart_disease") < _AUDIT else "train"

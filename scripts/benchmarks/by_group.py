"""How well a model ranks the patients of each group, and how far the worst group lies below all patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from scripts.benchmarks.result import Grid
from scripts.benchmarks.scoring import Scores, auroc

Weights = NDArray[np.float64]

LEAST_PATIENTS = 100
"""Fewest patients of a group that is looked at."""

_DRAWS, _SEED = 1000, 1


@dataclass(frozen=True)
class Compared:
    """How much further below its own mean the worst group lies under one model than under another.

    Attributes:
        points: 100 x (shortfall under the first - shortfall under the second); 0 or less: no further.
        low: Lower end of the 95 % interval over patients.
        high: Upper end.
    """

    points: float
    low: float
    high: float


@dataclass(frozen=True)
class _Ranked:
    """One group's examples under one model: bool[N] which they are, and their outcomes and the places of scores."""

    inside: NDArray[np.bool_]
    positive: NDArray[np.bool_]
    places: NDArray[np.intp]


@dataclass(frozen=True)
class Reported:
    """What a result says about groups.

    Attributes:
        figures: As in ``Result``.
        notes: What they mean, and their intervals.
        grid: Each group's AUROC under each model.
    """

    figures: Mapping[str, float]
    notes: tuple[str, ...]
    grid: Grid


def joined(parts: Sequence[Scores]) -> Scores:
    """Return the examples of all parts, several sites or folds, as one.

    They are sorted by patient, those of one patient in the order in which they came, so that two models' can be
    compared whichever way their patients were divided.
    """
    patients = np.concatenate([np.array(part.patients, dtype=str) for part in parts])
    order = np.argsort(patients, kind="stable")
    attributes = sorted(set.intersection(*(set(part.groups) for part in parts)))
    return Scores(
        labels=np.concatenate([part.labels for part in parts])[order],
        scores=np.concatenate([part.scores for part in parts])[order],
        patients=patients[order].tolist(),
        groups={name: np.concatenate([part.groups[name] for part in parts])[order] for name in attributes},
    )


def members(found: Scores, *, least: int = LEAST_PATIENTS) -> dict[str, NDArray[np.bool_]]:
    """Return ``attribute=group`` to bool[N], for groups of ``least`` patients or more and both outcomes."""
    owners = np.array(found.patients)
    inside = {
        f"{attribute}={group}": of == group
        for attribute, of in sorted(found.groups.items())
        for group in np.unique(of)
        if group
    }
    return {
        name: within
        for name, within in inside.items()
        if len(np.unique(owners[within])) >= least and len(np.unique(found.labels[within])) == 2
    }


def compare(models: Sequence[Scores], other: Scores, *, least: int = LEAST_PATIENTS) -> Compared:
    """Compare the shortfall of a model, the mean over several seeds, with another's: bootstrap by patient, paired.

    Args:
        models: One for each seed, of the same examples.
        other: The same examples in the same order, with patients and groups.
        least: As in ``members``.

    Raises:
        ValueError: The examples are not the same.
    """
    for one in models:
        if list(one.patients) != list(other.patients) or not np.array_equal(one.labels, other.labels):
            raise ValueError("not the same examples")
    everyone, rng = np.ones(len(other.labels), dtype=bool), np.random.default_rng(_SEED)
    parts = [everyone, *members(other, least=least).values()]
    ranked = [[_within(found, inside) for inside in parts] for found in (*models, other)]
    _, owner = np.unique(np.array(other.patients), return_inverse=True)
    patients = int(owner.max()) + 1

    def apart(times: NDArray[np.int64]) -> float:
        weights = times[owner].astype(np.float64)
        *ours, reference = (_shortfall(one, weights) for one in ranked)
        return 100 * (mean(ours) - reference)

    draws = [apart(np.bincount(rng.integers(0, patients, patients), minlength=patients)) for _ in range(_DRAWS)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return Compared(apart(np.ones(patients, dtype=np.int64)), float(low), float(high))


def reported(models: Mapping[str, Sequence[Scores]], pooled: Scores) -> Reported:
    """Compare models with the pooled one, by group.

    Args:
        models: Name of a model to its scores, one for each seed; ``worst_subgroup_points`` is of the first.
        pooled: Of a model of the patients of all sites together.
    """
    compared = {name: compare(scores, pooled) for name, scores in models.items()}
    first, *others = compared
    intervals = [f"{name} {one.points:.1f} ({one.low:.1f} to {one.high:.1f})" for name, one in compared.items()]
    return Reported(
        figures={
            "worst_subgroup_points": compared[first].points,
            **{f"{name}_worst_subgroup_points": compared[name].points for name in others},
        },
        notes=(
            (
                f"`worst subgroup points`: how much further the worst group of {LEAST_PATIENTS} or more patients lies "
                "below the AUROC over all patients than under the pooled model, in points; with the 95 % interval over "
                f"patients (paired bootstrap): {'; '.join(intervals)}."
            ),
        ),
        grid=_grid({**models, "pooled": [pooled]}),
    )


def _grid(models: Mapping[str, Sequence[Scores]]) -> Grid:
    one = next(iter(models.values()))[0]
    every = {"all": np.ones(len(one.labels), dtype=bool), **members(one)}
    owners = np.array(one.patients)
    rows = {
        name: (
            float(len(np.unique(owners[inside]))),
            *(mean(_auroc_within(each, inside) for each in scores) for scores in models.values()),
        )
        for name, inside in every.items()
    }
    return Grid(f"AUROC by group of {LEAST_PATIENTS} or more patients:", ("patients", *models), rows)


def _auroc_within(found: Scores, inside: NDArray[np.bool_]) -> float:
    return auroc([Scores(found.labels[inside], found.scores[inside])])


def _within(found: Scores, inside: NDArray[np.bool_]) -> _Ranked:
    _, places = np.unique(found.scores[inside], return_inverse=True)
    return _Ranked(inside, found.labels[inside] == 1, places)


def _shortfall(ranked: Sequence[_Ranked], weights: Weights) -> float:
    """Return the AUROC over all, which come first, minus that of the worst group, as ``weighted_auroc`` counts."""
    everyone, *groups = (weighted_auroc(one.places, one.positive, weights[one.inside]) for one in ranked)
    return everyone - float(np.nanmin(groups))


def weighted_auroc(places: NDArray[np.intp], positive: NDArray[np.bool_], weights: Weights) -> float:
    """Return the AUROC with each example counted ``weights`` times; not-a-number where one outcome is missing.

    Args:
        places: int[N], rank of each score among the different ones.
        positive: bool[N].
        weights: float64[N], 0 or more.
    """
    above, below = (np.bincount(places, weights * side) for side in (positive, ~positive))
    pairs = above.sum() * below.sum()
    return float(above @ (below.cumsum() - below / 2) / pairs) if pairs else float("nan")

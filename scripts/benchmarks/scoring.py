"""A study run in one process, and how well its final model tells the test patients of each site."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from client_app.data.catalog import load_splits
from client_app.site import agreed_plan
from client_app.state_cache import cached_states
from fedfm import statistics
from fedfm.arrays import Arrays
from fedfm.config.compose import load_site, study_from_json
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.examples import Example
from fedfm.model.build import load_adapter
from fedfm.plan import sd
from server_app.simulate import simulate

_T = 2.776  # 97.5 % point of Student's t with 4 degrees of freedom


@dataclass(frozen=True)
class Scores:
    """What a model says of one site's test examples; public data only.

    Attributes:
        labels: int[N], 1 for the positive class.
        scores: float64[N], probability of the positive class.
        patients: N identifiers.
        groups: Attribute to str[N], the group of each; empty where it has none.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    patients: Sequence[str] = ()
    groups: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)


def federate(sites: Mapping[str, Path], *, overrides: Sequence[str], results: Path) -> dict[str, Scores]:
    """Run a two-class study with the real apps, and score each site's test examples by the adapter it leaves.

    Scores are taken from the adapter and not from the run's counts, which know them to a tenth.

    Args:
        sites: Site name to the path of its site file; its ledger is charged.
        overrides: Of ``conf/study.yaml``.
        results: Where the run is written.

    Raises:
        FedFMError: The study could not be composed, or the run failed.
    """
    simulate(sites, overrides=overrides, results=results)
    run = (results / "latest").resolve()
    return {name: _scored(run, path) for name, path in sites.items()}


def _scored(run: Path, site_file: Path) -> Scores:
    study = study_from_json((run / "config.resolved.json").read_text(encoding="utf-8"))
    site = load_site(site_file)
    model = load_adapter(run / "adapter", statistics=_own_statistics(site, study))
    examples = load_splits(site, study.task).test
    states = kept_states(site, study, examples, model.encode)
    positive = study.task.labels.index(study.task.positive)
    with torch.no_grad():
        scores = model(states).double().softmax(dim=1)[:, positive].numpy()
    return of_examples(examples, scores, positive=positive)


def _own_statistics(site: Site, study: Study) -> Arrays | None:
    """Return what the site standardised by in its latest run; None where it did not by its own statistics."""
    release = agreed_plan(site, study).statistics
    if study.standardize.method != "site" or release is None:
        return None
    latest = max(Path(site.state).glob("statistics-*.json"), key=lambda path: path.stat().st_mtime_ns)
    sums = np.array(json.loads(latest.read_text(encoding="utf-8")), dtype=np.float64)
    noise = sd(release) * statistics.bound(study)
    found = statistics.pooled(study, sums, sums_sd=noise, declared=site.declared_patients)
    return statistics.for_model(found, study)


def of_examples(examples: Sequence[Example], scores: NDArray[np.float64], *, positive: int) -> Scores:
    """Return the scores beside what is known of their examples."""
    attributes = sorted({attribute for example in examples for attribute in example.groups})
    return Scores(
        labels=np.array([example.label == positive for example in examples], dtype=np.int64),
        scores=scores,
        patients=[example.patient for example in examples],
        groups={name: np.array([example.groups.get(name, "") for example in examples]) for name in attributes},
    )


def kept_states(
    site: Site, study: Study, examples: Sequence[Example], encode: Callable[[Sequence[Example]], list[Tensor]]
) -> list[Tensor]:
    """Return ``encode(examples)``, kept where the site's own trainer keeps and finds it."""
    return cached_states(Path(site.state) / "cache", study, examples, encode)


def accuracy(found: Scores) -> float:
    """Return the share of examples on the right side of one half."""
    return float(((found.scores >= 0.5) == found.labels).mean())


def auroc(found: Iterable[Scores]) -> float:
    """Return the chance that a positive scores above a negative, over the examples of all sites together."""
    every = list(found)
    labels = np.concatenate([each.labels for each in every])
    return float(roc_auc_score(labels, np.concatenate([each.scores for each in every])))


def half_width(five: Sequence[float]) -> float:
    """Return half the 95 % interval of the mean of five values (Student's t).

    Raises:
        ValueError: There are not five.
    """
    if len(five) != 5:
        raise ValueError(f"{len(five)} values")
    return _T * stdev(five) / 5**0.5


def stated(name: str, five: Sequence[float]) -> str:
    """Return ``name 0.812 ± 0.004``: the mean of five values and half its 95 % interval."""
    return f"{name} {mean(five):.3f} ± {half_width(five):.3f}"

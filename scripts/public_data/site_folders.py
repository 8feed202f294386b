"""Write one folder per site: ``cohort.csv`` and the site files that read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

SHARES = {"train": 0.7, "audit": 0.1, "test": 0.2}

_HEADER = """\
# {title}
# Public data: anybody may download these patients, so this site also accepts studies without
# privacy, exact counts with small cells, and whatever study asks. Never copy these lines into a hospital's own file.
"""
OPEN_POLICY = {
    "approval": "none",
    "max_epsilon": 10.0,
    "allow_no_privacy": True,
    "allow_exact_evaluation": True,
    "small_cells": "none",
}


@dataclass(frozen=True)
class PublicSite:
    """A site of a public data set.

    Attributes:
        id: Short name, also of its folder.
        title: For people.
        table: Its rows.
        data: The ``data`` section of ``site.yaml``, without the path.
        readings: Further site files of the same table: file name to ``data`` section.
    """

    id: str
    title: str
    table: pd.DataFrame
    data: Mapping[str, Any]
    readings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def write_sites(sites: list[PublicSite], folder: Path) -> None:
    """Write ``<folder>/<id>/cohort.csv`` and its site files."""
    for site in sites:
        home = folder / site.id
        home.mkdir(parents=True)
        site.table.to_csv(home / "cohort.csv", index=False)
        for name, data in {"site.yaml": site.data, **site.readings}.items():
            (home / name).write_text(site_file(site, data), encoding="utf-8")


def site_file(site: PublicSite, data: Mapping[str, Any]) -> str:
    """Return the text of a site file; its paths count from its own folder."""
    content = {
        "id": site.id,
        "display_name": site.title,
        "declared_patients": declared_patients(site.table, data),
        "state": "state",
        "data": {"path": "cohort.csv", **data},
        "policy": OPEN_POLICY,
    }
    return _HEADER.format(title=site.title) + OmegaConf.to_yaml(OmegaConf.create(content))


def declared_patients(table: pd.DataFrame, data: Mapping[str, Any]) -> int:
    """Return the number of training patients, rounded to tens and at least 10."""
    split, patients = data["split"], table[data["patient"]]
    training = patients[table[split["column"]] == "train"].nunique() if "column" in split else None
    count = patients.nunique() * SHARES["train"] if training is None else training
    return max(10, int(round(count, -1)))

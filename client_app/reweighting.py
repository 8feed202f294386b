"""Fairness-aware weights of examples at the site: Algorithm 1, line 9, before the training."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client_app.data.groups import declared_groups
from client_app.kept import written_once
from fedfm.config.site import Group
from fedfm.errors import ConfigError
from fedfm.examples import Example

Table = NDArray[np.float64]
"""float64[G, C]: patients by group and label; may be noisy."""


def groups_to_weigh(group: Group) -> list[str]:
    """Return the groups that the site file lists.

    Raises:
        ConfigError: The site file lists none, so that the list itself would tell of patients.
    """
    listed = declared_groups(group)
    if not listed:
        raise ConfigError(
            "SITE-E026",
            "reweighting needs a list of groups that does not come from the data",
            where=f"site.yaml data.groups, the group of column '{group.column}'",
            fix="list the groups under values, or give bands",
        )
    return listed


def group_label_table(examples: Sequence[Example], attribute: str, groups: Sequence[str], labels: int) -> Table:
    """Return the table of patients by group and label.

    Args:
        examples: Training examples.
        attribute: Protected attribute.
        groups: Public list of its groups, G in all, from the site file and never from the data.
        labels: Number of labels C.

    Guarantees:
        Each patient adds at most 1 in all, divided over its examples, so that the table's L2
        sensitivity to one patient is at most 1. Examples of no listed group do not count.
    """
    rows = {group: number for number, group in enumerate(groups)}
    notes: dict[str, int] = {}
    for example in examples:
        notes[example.patient] = notes.get(example.patient, 0) + 1
    table = np.zeros((len(groups), labels))
    for example in examples:
        row = rows.get(example.groups.get(attribute, ""))
        if row is not None:
            table[row, example.label] += 1 / notes[example.patient]
    return table


def kamiran_calders(table: Table, *, cap: float) -> Table:
    """Return float64[G, C] weights P(group) P(label) / P(group, label), at most ``cap``, of mean 1.

    After weighting, group and label are independent (Kamiran and Calders 2012, equation 2), but
    for the cap. Cells that noise has pushed below one patient count as one patient.

    Args:
        table: Patients by group and label, noisy where the study has privacy.
        cap: Largest weight; >= 1.
    """
    counts = np.maximum(table, 1.0)
    joint = counts / counts.sum()
    weights = np.minimum(joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True) / joint, cap)
    normalised: Table = weights / (weights * joint).sum()
    return normalised


def weights_of(examples: Sequence[Example], attribute: str, groups: Sequence[str], weights: Table) -> Tensor:
    """Return float32[N], the weight of each example by its group and label; 1 for no listed group."""
    rows = {group: number for number, group in enumerate(groups)}
    found = [
        weights[rows[group], example.label] if (group := example.groups.get(attribute, "")) in rows else 1.0
        for example in examples
    ]
    return torch.tensor(found, dtype=torch.float32)


def noisy_table_once(path: Path, release: Callable[[], Table]) -> Table:
    """Return the table kept at ``path``, or release it now and keep it, so that a run pays for it once."""
    kept: Table = np.array(json.loads(written_once(path, lambda: json.dumps(release().tolist()))), dtype=np.float64)
    return kept


REWEIGHTINGS: dict[str, Callable[..., Table]] = {"kamiran_calders": kamiran_calders}

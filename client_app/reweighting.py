"""Fairness-aware weights of examples at the site: Algorithm 1, line 9, before the training."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
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
from fedfm.metrics.counts import LOSS_CAP, clipped_loss

Table = NDArray[np.float64]
"""float64[G, C]: patients by group and label; may be noisy."""

_LEAST_LOG = -50.0
"""Smallest logarithm of a weight against the largest: above what could underflow, below what any cap lets through."""


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
    """Return float64[G, C] weights P(group) P(label) / P(group, label), at most ``cap``, of mean 1 under the table.

    After weighting, group and label are independent (Kamiran and Calders 2012, equation 2), but
    for the cap. Cells that noise has pushed below one patient count as one patient.

    Args:
        table: Patients by group and label, noisy where the study has privacy.
        cap: Largest weight; >= 1.
    """
    counts = np.maximum(table, 1.0)
    joint = counts / counts.sum()
    return _of_mean_one(joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True) / joint, joint, cap)


def group_loss_table(
    losses: NDArray[np.floating], patients: Sequence[str], members: Mapping[str, NDArray[np.bool_]]
) -> Table:
    """Return float64[G, 2]: the sum of clipped losses of each group, each in [0, 1], and how many patients.

    Args:
        losses: float[N] cross-entropy of each example, in nats; what cannot be computed may be not-a-number.
        patients: N identifiers; the unit of privacy.
        members: Group to bool[N], the examples that are in it; no example is in two.

    Guarantees:
        A patient counts to a group by the share of its examples there, and adds at most 1 to all sums and at most 1
        to all counts: sqrt(2) in L2.
    """
    found = clipped_loss(losses, patients)
    _, patient, notes = np.unique(np.asarray(patients, dtype=str), return_inverse=True, return_counts=True)
    shares = np.array(
        [np.bincount(patient, weights=inside, minlength=len(notes)) / notes for inside in members.values()]
    )
    table: Table = np.stack([shares @ found, shares.sum(axis=1)], axis=1)
    return table


def group_dro(tables: Sequence[Table], *, noise: float, step: float, cap: float) -> Table:
    """Return float64[G] weights q_g / p_g, at most ``cap``, of mean 1 under the groups' shares p.

    q begins at p and moves to groups with larger losses, q_g <- q_g exp(step * loss_g) after each table, normalised
    (Sagawa et al. 2020, arXiv:1911.08731, algorithm 1, by example weights and from the groups' shares, so that a
    step of 0 is plain training). p cancels out of q_g / p_g: its noise reaches the weights by their mean alone.

    Args:
        tables: T of ``group_loss_table``, one for each round so far, noised.
        noise: Standard deviation of the noise in each number; 0 where they are exact.
        step: How far a loss of 1 nat moves the logarithm of a weight in one round; >= 0.
        cap: Largest weight; >= 1.

    Guarantees:
        A group whose count could be noise alone (below twice its deviation, or one patient) has the loss of all, so
        that a group that nothing is known of is weighed by no chance.
    """
    counts = np.mean([table[:, 1] for table in tables], axis=0)
    known = counts >= max(1.0, 2 * noise / math.sqrt(len(tables)))
    patients = np.maximum(counts, 1.0)
    sums = np.array([table[:, 0] for table in tables])
    pooled = sums.sum(axis=1, keepdims=True) / patients.sum()
    losses = LOSS_CAP * np.clip(np.where(known, sums / patients, pooled), 0.0, 1.0)
    moved = step * losses.sum(axis=0)
    raw = np.exp(np.maximum(moved - moved.max(), _LEAST_LOG))
    return _of_mean_one(raw, patients / patients.sum(), cap)


def _of_mean_one(raw: Table, shares: Table, cap: float) -> Table:
    """Return weights in proportion to ``raw`` but none above ``cap``, of mean 1 under ``shares``, which sum to 1.

    What the cap takes is divided over the others, until none of them is above it.
    """
    capped = np.zeros(raw.shape, dtype=bool)
    while True:
        room = 1 - cap * shares[capped].sum()
        weights: Table = np.where(capped, cap, raw * room / (raw * shares)[~capped].sum())
        beyond = (weights > cap * (1 + 1e-12)) & ~capped
        capped |= beyond
        if capped.all():
            return np.full(raw.shape, cap)  # a cap of 1, up to rounding
        if not beyond.any():
            return weights


def weights_of(examples: Sequence[Example], attribute: str, groups: Sequence[str], weights: Table) -> Tensor:
    """Return float32[N], the weight of each example; 1 for no listed group.

    Args:
        examples: N of them.
        attribute: Protected attribute.
        groups: Public list of its groups, G in all.
        weights: float64[G, C] by group and label.
    """
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

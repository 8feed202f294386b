"""Patients counted by group: by each attribute of the study and each intersection of attributes that the site can name.

Groups are those that the site file lists, whatever the data hold: a list made from the data would tell of patients.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client_app.data.groups import declared_groups
from client_app.noise import noised_sums
from client_app.rounds import Round
from fedfm.examples import Example
from fedfm.metrics.counts import columns, group_tables
from fedfm.plan import crossed, sd
from fedfm.privacy import Release
from fedfm.schedule import audit_group_rounds, closing_round, group_rounds
from fedfm.signals import audit_attribute

Tables = dict[str, NDArray[np.float64]]
"""``attribute=group`` to float64[C, K]."""


@dataclass(frozen=True)
class Answers:
    """What the model says of some examples.

    Attributes:
        examples: N of them.
        probabilities: float64[N, C], rows sum to 1.
        labels: int64[N] in [0, C).
        units: N names of the unit of privacy.
    """

    examples: Sequence[Example]
    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    units: Sequence[str]


def release_on_test(asked: Round) -> Release | None:
    """Return the noise of the count of test patients; None where none is asked for or no attribute can be named."""
    study, number = asked.study, asked.request.round
    if number not in group_rounds(study) or not _listed(asked):
        return None
    return asked.plan.last_groups if number == closing_round(study) else asked.plan.groups


def release_on_audit(asked: Round) -> Release | None:
    """Return the noise of the count of audit patients; None where no rule asks or the attribute cannot be named."""
    is_asked = asked.request.round in audit_group_rounds(asked.study)
    return asked.plan.audit_groups if is_asked and _groups_of(asked, audit_attribute(asked.study)) else None


def count_on_test(asked: Round, answers: Answers, release: Release, *, positive: int) -> tuple[Tables, float]:
    """Count test patients by every attribute and intersection; charge ``release`` to the ledger before.

    Returns:
        Noised tables, of as many columns as the study asks for, and the standard deviation of their noise.
    """
    study = asked.study
    width = columns(
        len(study.task.labels),
        bins=study.evaluation.group_bins,
        is_last=asked.request.round == closing_round(study),
    )
    # a patient adds at most 1 to each attribute and intersection; how many there are is the study's to say, and public
    noise = sd(release) * math.sqrt(crossed(study))
    return _noised(answers, _listed(asked), noise, positive=positive, bins=width), noise


def count_on_audit(asked: Round, answers: Answers, release: Release, *, positive: int) -> tuple[Tables, float]:
    """Count audit patients by the attribute that a rule asks for; charge ``release`` to the ledger before."""
    attribute = audit_attribute(asked.study)
    listed = {attribute: _groups_of(asked, attribute)}
    noise = sd(release)
    return _noised(answers, listed, noise, positive=positive, bins=2), noise


def _noised(answers: Answers, listed: Mapping[str, Sequence[str]], noise: float, *, positive: int, bins: int) -> Tables:
    found: Tables = {}
    for attribute, groups in listed.items():
        tables = group_tables(
            answers.probabilities,
            answers.labels,
            answers.units,
            members=_members(answers.examples, attribute, groups),
            positive=positive,
            bins=bins,
        )
        found |= {f"{attribute}={name}": noised_sums(table, noise) for name, table in tables.items()}
    return found


def _listed(asked: Round) -> dict[str, list[str]]:
    """Return attribute or intersection to groups where study and site file name all; the data are not looked at."""
    wanted, found = asked.study.task, {}
    for name in (*wanted.groups, *wanted.intersections):
        of_each = [_groups_of(asked, attribute) for attribute in name.split("*")]
        if all(of_each):
            found[name] = ["*".join(groups) for groups in itertools.product(*of_each)]
    return found


def _groups_of(asked: Round, attribute: str) -> list[str]:
    group = asked.site.data.groups.get(attribute)
    return [] if group is None else declared_groups(group)


def _members(examples: Sequence[Example], name: str, groups: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Return group to bool[N], which examples are in it; no example is in two groups of one name."""
    attributes = name.split("*")
    of = np.array(["*".join(example.groups.get(one, "") for one in attributes) for example in examples], dtype=str)
    return {group: of == group for group in groups}

"""A hospital with exact counts, for tests of what leaves of them and of what follows from it."""

import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client_app.asked import Round
from client_app.ledger import Ledger
from client_app.small_cells import without_small_cells
from fedfm.config import site as site_config
from fedfm.config.compose import compose_study, study_to_json
from fedfm.config.study import Study
from fedfm.metrics.suppression import OTHER, Cells
from fedfm.plan import plan
from fedfm.wire import EvaluateReply, PrivacySpent, Request
from tests.unit.client_app.attacker import Attacker, Counts

SPENT = PrivacySpent("none", 1e-3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
BINS, LISTED = 4, {"a": ("a1", "a2", "a3"), "b": ("b1", "b2"), "c": ("c1", "c2")}
AXES = {"label": 2, "bin": BINS, "other": 2, "a": 4, "b": 3}
"""A test patient: label, score bin, answer of another model, group of each attribute; the last group is unlisted.

Bins may be more than these; all below is by the axes of the counts.
"""

Patients = Mapping[tuple[int, ...], int]


@lru_cache
def study_of(*overrides: str, groups: str = "a,b", pairs: str = "a*b", bins: int = BINS) -> Study:
    wanted = [f"evaluation.bins={bins}", f"task.groups=[{groups}]", f"task.intersections=[{pairs}]", "rounds=2"]
    study: Study = compose_study(
        ["model=tiny", "adapter=head", "privacy=none", "evaluation=exact", *wanted, *overrides]
    ).value
    return study


def asked(study: Study, state: Path, *, number: int = 2, rule: str = "cms") -> Round:
    groups = {
        name: site_config.Group(name, values={group: group for group in listed}) for name, listed in LISTED.items()
    }
    data = site_config.Data("x.csv", "text", "mrn", "y", label_map={}, split=site_config.Split(), groups=groups)
    policy = site_config.Policy(small_cells=rule)
    site = site_config.Site("hospital-a", declared_patients=60, data=data, policy=policy, state=str(state))
    prepared: Any = SimpleNamespace()
    request = Request("run", study_to_json(study), number, "")
    return Round(site, study, plan(study, delta=1e-3), Ledger(state, "a"), prepared, request)


def counts_of(patients: Patients, axes: Mapping[str, int] = AXES) -> Counts:
    counts = np.zeros(tuple(axes.values()), dtype=np.int64)
    for at, many in patients.items():
        counts[at] += many
    return counts


def in_bins(cells: Cells, bins: int) -> Cells:
    found: Cells = cells.reshape(len(cells), bins, -1).sum(axis=2)
    return found


def reply_of(counts: Counts, *, study: Study, number: int = 2, model: str = "bin", bins: int = 2) -> EvaluateReply:
    """Count exactly, as a site does, the answers of the model whose scores an axis holds."""
    names = [*AXES, "c"][: counts.ndim]

    def over(table: Counts, *kept: str) -> Cells:
        """Return the counts by the named axes, in this order; the answers 0 and 1 are the outermost bins."""
        gone = tuple(axis for axis, name in enumerate(names) if name not in kept)
        left = [name for name in names if name in kept]
        found = table.sum(axis=gone).transpose([left.index(name) for name in kept]).astype(float)
        if "other" in kept:
            at = kept.index("other")
            found = np.insert(found, [1] * (counts.shape[names.index("bin")] - 2), 0.0, axis=at)
        return found

    is_last = number == 2
    groups = {}
    for name in [*study.task.groups, *study.task.intersections] if is_last else []:
        tables = over(counts, *name.split("*"), "label", model)
        for at in product(*(range(len(LISTED[attribute])) for attribute in name.split("*"))):
            named = "*".join(LISTED[attribute][index] for attribute, index in zip(name.split("*"), at, strict=True))
            groups[f"{name}={named}"] = in_bins(tables[at], bins)
    cells = over(counts, "label", model)
    return EvaluateReply(
        site="hospital-a",
        round=number,
        cells=cells if is_last else in_bins(cells, 2),
        cells_sd=0.0,
        explanation={},
        explanation_sd=0.0,
        seconds=1.0,
        privacy=SPENT,
        groups=groups,
        alone=over(counts, "label", "other") if is_last else np.zeros((2, 0)),
    )


def published(counts: Counts, study: Study, *, bins: int = 2, rule: str = "cms") -> list[tuple[str, EvaluateReply]]:
    """Return all that leaves in a run, and of which model: on the way, at the end, asked again twice."""
    with tempfile.TemporaryDirectory() as state:
        return [
            (model, without_small_cells(reply, asked(study, Path(state), number=number, rule=rule)))
            for model, number in (("other", 1), ("bin", 2), ("other", 2), ("bin", 2))
            for reply in [reply_of(counts, study=study, number=number, model=model, bins=bins)]
        ]


def told(attacker: Attacker, counts: Counts, answers: Sequence[tuple[str, EvaluateReply]]) -> Attacker:
    """Let the attacker have every table that left, and know what ``OTHER`` is made of."""
    for model, reply in answers:
        learn(attacker, [(reply.cells, {})], model)
        learn(attacker, [(reply.alone, {})], "other")
        by_name: dict[str, dict[str, Cells]] = {}
        for key, table in reply.groups.items():
            name, _, group = key.partition("=")
            by_name.setdefault(name, {})[group] = table
        for name, tables in by_name.items():
            meant = [
                meanings(name, tables, unlisted) for unlisted in product([False, True], repeat=name.count("*") + 1)
            ]
            learn(attacker, next(option for option in meant if are_true(attacker, option, model, counts)), model)
    return attacker


def meanings(name: str, tables: Mapping[str, Cells], unlisted: Sequence[bool]) -> list[tuple[Cells, dict[str, Any]]]:
    """Return each table with the groups it is about, where ``OTHER`` of each attribute holds the unlisted or not.

    ``OTHER`` is all that is not shown; it means the same in every table of one attribute or intersection.
    """
    found = []
    for group, table in tables.items():
        who = {}
        for at, (attribute, part) in enumerate(zip(name.split("*"), group.split("*"), strict=True)):
            alone = {other.split("*")[at] for other in tables}
            rest = tuple(index for index, one in enumerate(LISTED[attribute]) if one not in alone)
            others = (*rest, len(LISTED[attribute])) if unlisted[at] else rest
            who[attribute] = others if part == OTHER else (LISTED[attribute].index(part),)
        found.append((table, who))
    return found


Facts = Sequence[tuple[Cells, Mapping[str, Any]]]


def are_true(attacker: Attacker, tables: Facts, model: str, counts: Counts) -> bool:
    return all(counts[who].sum() == many for who, many in facts(attacker, tables, model))


def learn(attacker: Attacker, tables: Facts, model: str) -> None:
    for who, many in facts(attacker, tables, model):
        attacker.learns(who, many)


def facts(attacker: Attacker, tables: Facts, model: str) -> list[tuple[NDArray[np.bool_], float]]:
    """Return each cell as a set of patients, and how many they are."""
    found = []
    for table, groups in tables:
        size, width = attacker.axes[model], table.shape[1]
        per = [tuple(np.flatnonzero(np.arange(size) * width // size == column).tolist()) for column in range(width)]
        if size < width:
            per = [(0,), *[()] * (width - 2), (1,)]
        for label, column in product((0, 1), range(width)):
            found.append((attacker.of(label=label, **{model: per[column]}, **groups), float(table[label, column])))
    return found


SHOWN = counts_of(
    {
        **{(label, label * 3, b, a, b): 30 for label in (0, 1) for a in (0, 1, 2) for b in (0, 1)},
        **{(label, 3 - label * 3, 1, a, b): 12 for label in (0, 1) for a in (0, 1) for b in (0, 1)},
        (0, 3, 1, 2, 0): 5,
    }
)
"""A hospital of which nearly all may be shown: five of the third group of one attribute are called positive wrongly."""

"""The last look at a site's answer: exact counts leave without small cells, as the site's own policy says.

Noised numbers pass: their noise protects them, and a threshold on them adds nothing. Of exact ones

* counts of test patients leave once in a run, whichever studies ask in it: in the closing evaluation. Two counts of
  the same patients with two models differ by those whom the models judge differently, and these may be few. Asked
  again, the site sends what it sent, or nothing;
* counts of audit patients by group leave once as well, the first time;
* cells get coarser, groups are merged (``fedfm.metrics.suppression``), or they are withheld;
* sums over audit patients are withheld where the patients are few, and credits of a term where few documents hold
  it, or few do not. Numbers of documents by term leave once, the first time, or again as they were.

What is withheld is empty, never zero: to the coordinator it was not told.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from client_app.asked import Round
from client_app.data.groups import declared_groups
from client_app.kept import written_once
from client_app.scores import owners_of
from fedfm.config.study import Study
from fedfm.metrics import suppression
from fedfm.metrics.counts import by_class, halves
from fedfm.metrics.suppression import OTHER, UNLISTED, Cells, Partition, Rule
from fedfm.schedule import closing_round
from fedfm.signals import audit_attribute
from fedfm.wire import EvaluateReply

Tables = dict[str, Cells]
Listed = Mapping[str, list[str]]
"""Attribute to its groups, from the site file."""


def without_small_cells(reply: EvaluateReply, asked: Round) -> EvaluateReply:
    """Return the answer as it may leave.

    Guarantees:
        What was sent is on disk before it leaves.
    """
    rule = suppression.RULES[asked.site.policy.small_cells]
    if rule is None:
        return reply
    if reply.cells_sd == 0:
        reply = _test_patients(reply, asked, rule)
    if reply.audit_groups and reply.audit_groups_sd == 0:
        reply = _audit_groups(reply, asked, rule)
    documents = reply.explanation.get("documents", 0.0)  # before it is rounded
    return _terms(_audit_sums(reply, asked, rule), asked, rule, documents=documents)


def shown_sums(asked: Round, sums: Mapping[str, float]) -> Mapping[str, float]:
    """Return exact sums over audit documents, with ``documents`` among them, as they may leave; empty: not at all.

    Audit patients whose documents are not among them count too: the losses are told of all, if not in this answer.
    """
    rule = suppression.RULES[asked.site.policy.small_cells]
    if rule is None:
        return sums
    by_record = asked.study.privacy.unit == "record"
    everybody = len(set(owners_of(asked.prepared.splits.audit, by_record=by_record)))
    rest = everybody - sums["documents"] if asked.plan.loss is not None else 0.0
    is_told = not suppression.has_small(rest, rule) and _is_looked_at_as_before(asked)
    return _scaled(sums, "documents", rule) if is_told else {}


def _is_looked_at_as_before(asked: Round) -> bool:
    """Whether reasons are asked for as they first were in the run: a few documents more would tell of these."""
    wanted = json.dumps([asdict(asked.study.explainability), asked.study.privacy.unit], sort_keys=True)
    return _is_first_or_same(asked.kept_in_run("explained"), wanted)


def _test_patients(reply: EvaluateReply, asked: Round, rule: Rule) -> EvaluateReply:
    """Suppress the cells, the groups and the answers of the model trained alone, in this order."""
    withheld = np.zeros((len(reply.cells), 0))
    nothing = replace(reply, cells=withheld, groups={}, alone=withheld)
    if asked.request.round != closing_round(asked.study):
        return nothing
    cells = suppression.coarsened(reply.cells, rule)
    alone = suppression.coarsened(reply.alone, rule, earlier=[cells])
    listed = {name: declared_groups(group) for name, group in asked.site.data.groups.items()}
    groups = _groups(reply, asked.study, listed, rule) if reply.groups else {}
    shown = replace(
        reply,
        cells=suppression.shown(cells, rule),
        groups={key: suppression.shown(table, rule) for key, table in groups.items()},
        alone=suppression.shown(alone, rule),
    )
    told = {"cells": shown.cells, "alone": shown.alone, **shown.groups}
    return shown if _leaves_first_or_again(asked.kept_in_run("counted"), told) else nothing


def _groups(reply: EvaluateReply, study: Study, listed: Listed, rule: Rule) -> Tables:
    """Return the tables of attributes and of intersections that may be shown, by the keys of the wire.

    All have score bins where the cells have theirs and no group has to be merged for it, and all are by predicted class
    otherwise. So nothing is finer than the cells, which the model trained alone is compared with.
    """
    positive = study.task.labels.index(study.task.positive) if study.task.positive else len(study.task.labels) - 1
    by_bins = _bins(reply.cells, next(iter(reply.groups.values())).shape[1], rule)
    if by_bins is not None:
        counted = _Counted(reply.groups, by_bins, study, listed)
        parts = counted.parts(rule)
        if all(OTHER not in partition and partition for partition in parts.values()):
            return counted.shown(parts, rule)
    low, high = halves(reply.cells).T
    by_prediction = np.stack([high, low] if positive == 0 else [low, high], axis=1)
    everyone = by_prediction if len(study.task.labels) == 2 else reply.cells
    groups = {key: by_class(table, positive=positive) for key, table in reply.groups.items()}
    counted = _Counted(groups, everyone, study, listed)
    return counted.shown(counted.parts(rule), rule)


def _bins(cells: Cells, columns: int, rule: Rule) -> Cells | None:
    """Return the cells of all test patients in fewer score bins; None where these are no unions of those shown."""
    if len(cells) != 2 or columns == 2 or cells.shape[1] % columns or suppression.has_small(cells, rule):
        return None
    found: Cells = cells.reshape(len(cells), columns, -1).sum(axis=2)
    return found


@dataclass(frozen=True)
class _Counted:
    """Exact counts of test patients by group.

    Attributes:
        groups: By the keys of the wire.
        everyone: All test patients in the same columns; public, as far as is known here.
        study: What was asked.
        listed: The site's groups.
    """

    groups: Mapping[str, Cells]
    everyone: Cells
    study: Study
    listed: Listed

    def parts(self, rule: Rule) -> dict[str, Partition]:
        """Return the parts of each attribute that may be shown."""
        named = {name: self.tables(name) for name in self.study.task.groups}
        return {name: suppression.merged(own, self.unlisted(own), rule) for name, own in named.items() if own}

    def shown(self, parts: Mapping[str, Partition], rule: Rule) -> Tables:
        """Return the tables of these parts, and of their intersections as far as these may be shown."""
        found: Tables = {}
        for name, partition in parts.items():
            own = self.tables(name)
            found |= {f"{name}={part}": t for part, t in suppression.sums(own, self.unlisted(own), partition).items()}
        names = [tuple(crossing.split("*")) for crossing in self.study.task.intersections]
        for one, other in suppression.without_cycles([(name[0], name[1]) for name in names if len(name) == 2]):
            if parts.get(one) and parts.get(other):
                joint = _joint(self.groups, f"{one}*{other}", (self.tables(one), self.tables(other), self.everyone))
                found |= _crossed(f"{one}*{other}", joint, (parts[one], parts[other]), rule)
        return found

    def tables(self, name: str) -> Tables:
        """Return group to counts of one attribute."""
        return _of_attribute(self.groups, name, self.listed)

    def unlisted(self, own: Tables) -> Cells:
        """Return the counts of patients of no listed group."""
        return self.everyone - _sum(own, self.everyone)


def _crossed(name: str, joint: dict[tuple[str, str], Cells], parts: tuple[Partition, Partition], rule: Rule) -> Tables:
    rows, columns = suppression.crossed(joint, *parts, rule)
    tables = suppression.intersections(joint, rows, columns)
    return {f"{name}={row}*{column}": t for (row, column), t in tables.items() if UNLISTED not in (row, column)}


def _joint(
    groups: Mapping[str, Cells], name: str, margins: tuple[Tables, Tables, Cells]
) -> dict[tuple[str, str], Cells]:
    """Return the counts by two attributes, patients of no listed group among them, from margins and intersections."""
    rows, columns, everyone = margins
    empty = np.zeros_like(everyone)
    joint = {(row, column): groups.get(f"{name}={row}*{column}", empty) for row in rows for column in columns}
    for row, table in rows.items():
        joint[row, UNLISTED] = table - np.sum([joint[row, column] for column in columns], axis=0)
    for column, table in columns.items():
        joint[UNLISTED, column] = table - np.sum([joint[row, column] for row in rows], axis=0)
    neither = _sum({column: joint[UNLISTED, column] for column in columns}, everyone)
    joint[UNLISTED, UNLISTED] = everyone - _sum(rows, everyone) - neither
    return joint


def _of_attribute(groups: Mapping[str, Cells], name: str, listed: Listed) -> Tables:
    keys = {group: f"{name}={group}" for group in listed.get(name, [])}
    return {group: groups[key] for group, key in keys.items() if key in groups}


def _audit_groups(reply: EvaluateReply, asked: Round, rule: Rule) -> EvaluateReply:
    name = audit_attribute(asked.study)
    group = asked.site.data.groups.get(name)
    tables = _of_attribute(reply.audit_groups, name, {name: declared_groups(group)} if group else {})
    everybody = reply.losses.get("patients")  # shown in the same answer, so the rest can be derived
    rest = 0.0 if everybody is None else everybody - sum(float(table.sum()) for table in tables.values())
    if suppression.has_small(rest, rule):
        return replace(reply, audit_groups={})
    nobody = np.zeros((len(asked.study.task.labels),) * 2)
    partition = suppression.merged(tables, nobody, rule)
    told = {
        f"{name}={part}": suppression.shown(table, rule)
        for part, table in suppression.sums(tables, nobody, partition).items()
    }
    is_told = bool(told) and _leaves_first_or_again(asked.kept_in_run("counted-audit"), told)
    return replace(reply, audit_groups=told if is_told else {})


def _audit_sums(reply: EvaluateReply, asked: Round, rule: Rule) -> EvaluateReply:
    """Withhold exact sums over few patients, and explanations that nearly all or nearly none of them give.

    Of explanations, those that are asked for in another way than before in the run, too.
    """
    losses, explanation = reply.losses, reply.explanation
    if losses and reply.losses_sd == 0:
        losses = _scaled(losses, "patients", rule)
    if explanation and reply.explanation_sd == 0:
        unexplained = reply.losses["patients"] - explanation["documents"] if losses else 0.0
        is_told = not suppression.has_small(unexplained, rule) and _is_looked_at_as_before(asked)
        explanation = _scaled(explanation, "documents", rule) if is_told else {}
    return replace(reply, losses=losses, explanation=explanation)


def _terms(reply: EvaluateReply, asked: Round, rule: Rule, *, documents: float) -> EvaluateReply:
    """Show exact credits of terms that neither few documents hold nor all but few; nothing where explanations are not.

    Which of many terms a document counts for follows its credits, and so the model: two counts of the same documents
    could differ by few of them.
    """
    if not reply.terms.size or reply.terms_sd > 0:
        return reply
    withheld = replace(reply, terms=np.zeros((2, 0)))
    if not reply.explanation:
        return withheld
    credited, held = reply.terms
    is_told = np.array([not suppression.has_small(np.array([n, documents - n]), rule) for n in held], dtype=bool)
    counts = np.where(is_told, suppression.shown(held, rule), 0.0)
    means = np.divide(credited, held, out=np.zeros_like(credited), where=held > 0)
    is_known = _leaves_first_or_again(asked.kept_in_run("counted-terms"), {"documents": counts})
    return replace(reply, terms=np.stack([means * counts, counts])) if is_known else withheld


def _scaled(sums: Mapping[str, float], count: str, rule: Rule) -> Mapping[str, float]:
    """Return sums of which the count is shown as a count, and the means are kept; nothing where it is small."""
    patients = sums[count]
    if suppression.has_small(patients, rule):
        return {}
    told = float(suppression.shown(np.array(patients), rule))
    return {name: value * told / patients if patients else 0.0 for name, value in sums.items()} | {count: told}


def _leaves_first_or_again(path: Path, told: Tables) -> bool:
    """Whether no other counts of the kind have left in the run; what is empty leaves nothing."""
    if not any(table.size for table in told.values()):
        return True
    return _is_first_or_same(path, json.dumps({key: told[key].tolist() for key in sorted(told)}))


def _is_first_or_same(path: Path, text: str) -> bool:
    """Whether the run had no other text of the kind before; the state folder keeps a digest of the first one."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return written_once(path, lambda: digest) == digest


def _sum(tables: Tables, like: Cells) -> Cells:
    total: Cells = np.sum([np.zeros_like(like), *tables.values()], axis=0)
    return total

"""What leaves the hospital beside the update: sums over test and audit patients, each charged, clipped and noised.

Training, test and audit patients are three sets that share no patient (``client_app.data.split``), and no release
looks at two of them. So the releases of one set say nothing of the others (parallel composition, McSherry 2009,
theorem 4), and a patient spends what is released about its own set only. Within a set releases add up in the ledger.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from client_app import baseline, checks, comparison
from client_app.asked import Round
from client_app.data.groups import declared_groups
from client_app.noise import noised_sums
from client_app.rounds import audit_documents, load_received
from client_app.scores import logits_of, owners_of, positive_of, probabilities_of
from fedfm.metrics.counts import clipped_loss, columns, group_tables, patient_cells
from fedfm.plan import crossed, sd
from fedfm.schedule import closing_round, explanation_rounds, group_rounds
from fedfm.wire import EvaluateReply

Table = NDArray[np.float64]


@dataclass(frozen=True)
class _Counts:
    """Noised counts of test patients; the fields of ``EvaluateReply`` of the same names."""

    cells: Table
    cells_sd: float
    groups: Mapping[str, Table]
    groups_sd: float


def evaluate(asked: Round) -> EvaluateReply:
    """Count how the received parameters do on test patients; sum losses and faithful reasons on audit patients.

    Raises:
        FedFMError: The site refuses. What was charged before stays charged.
    """
    started = time.monotonic()
    load_received(asked)
    counts = _count(asked)
    losses, losses_sd = _sum_losses(asked)
    explanation, explanation_sd = _explain(asked)
    alone, alone_sd = baseline.count_alone(asked)
    reply = EvaluateReply(
        site=asked.site.id,
        round=asked.request.round,
        **vars(counts),
        explanation=explanation,
        explanation_sd=explanation_sd,
        losses=losses,
        losses_sd=losses_sd,
        alone=alone,
        alone_sd=alone_sd,
        seconds=time.monotonic() - started,
        privacy=asked.spent(),
    )
    comparison.keep_figures(asked)  # after the answer is made, which knows nothing of it
    return reply


def _count(asked: Round) -> _Counts:
    """Count test patients by label and score; after the last round by groups, too."""
    study, prepared = asked.study, asked.prepared
    number, plan = asked.request.round, asked.plan
    is_last = number == closing_round(study)
    release = plan.last_evaluation if is_last else plan.evaluation
    counts_groups = number in group_rounds(study) and _listed(asked)
    by_groups = (plan.last_groups if is_last else plan.groups) if counts_groups else None
    asked.charge("test", "evaluation", release)
    if by_groups is not None:
        asked.charge("test", "groups", by_groups)
    labels, classes = prepared.test.labels.numpy(), study.task.labels
    positive = positive_of(study)
    probabilities = probabilities_of(logits_of(prepared.model, prepared.test, asked.prepared.micro_batch, len(classes)))
    units = owners_of(prepared.splits.test, by_record=study.privacy.unit == "record")
    width = columns(len(classes), bins=study.evaluation.bins, is_last=is_last)
    cells = patient_cells(probabilities, labels, units, bins=width, positive=positive)
    groups: dict[str, Table] = {}
    cells_sd, groups_sd = sd(release), 0.0
    if by_groups is not None:
        # each patient adds at most 1 to each attribute; of how many attributes is the study's to say, and public
        groups_sd = sd(by_groups) * math.sqrt(crossed(study))
        for attribute, members in _members(asked).items():
            tables = group_tables(probabilities, labels, units, members=members, positive=positive)
            groups |= {f"{attribute}={name}": noised_sums(t, groups_sd) for name, t in tables.items()}
    return _Counts(noised_sums(cells, cells_sd), cells_sd, groups, groups_sd)


def _sum_losses(asked: Round) -> tuple[dict[str, float], float]:
    """Sum the clipped loss of audit patients; without any the noise is sent, so that nobody learns that."""
    release, study, prepared = asked.plan.loss, asked.study, asked.prepared
    if release is None:
        return {}, 0.0
    asked.charge("audit", "loss", release)
    logits = logits_of(prepared.model, prepared.audit, asked.prepared.micro_batch, len(study.task.labels))
    found = nn.functional.cross_entropy(logits, prepared.audit.labels, reduction="none").numpy()
    shares = clipped_loss(found, owners_of(prepared.splits.audit, by_record=study.privacy.unit == "record"))
    added = sd(release) * math.sqrt(2)  # a patient who comes or goes moves each of two sums by at most 1
    noisy = noised_sums(np.array([shares.sum(), len(shares)], dtype=np.float64), added)
    return dict(zip(("loss", "patients"), noisy.tolist(), strict=True)), added


def _explain(asked: Round) -> tuple[dict[str, float], float]:
    release = asked.plan.explanation
    if release is None or asked.request.round not in explanation_rounds(asked.study):
        return {}, 0.0
    asked.charge("audit", "explanation", release)
    documents = audit_documents(asked)
    sums = np.zeros(3)
    if documents:
        measured = checks.explain(asked.prepared.model, documents, asked.study.explainability)
        sums = np.array([measured.comprehensiveness.sum(), measured.random_order.sum(), len(documents)])
    # a patient who comes or goes moves each of three sums by at most 1
    added = sd(release) * math.sqrt(3)
    noisy = noised_sums(sums, added)
    return dict(zip(("comprehensiveness", "random_order", "documents"), noisy.tolist(), strict=True)), added


def _listed(asked: Round) -> dict[str, list[str]]:
    """Return attribute to groups where study and site file name both; the data are not looked at."""
    named = {name: asked.site.data.groups[name] for name in asked.study.task.groups if name in asked.site.data.groups}
    listed = {attribute: declared_groups(group) for attribute, group in named.items()}
    return {attribute: groups for attribute, groups in listed.items() if groups}


def _members(asked: Round) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Return attribute to group to bool[N], which test examples are in it."""
    found = {}
    for attribute, groups in _listed(asked).items():
        of = np.array([example.groups.get(attribute, "") for example in asked.prepared.splits.test], dtype=str)
        found[attribute] = {group: of == group for group in groups}
    return found

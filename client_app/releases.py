"""What leaves the hospital beside the update: sums over test and audit patients, each charged, clipped and noised.

Training, test and audit patients are three sets that share no patient (``client_app.data.split``), and no release
looks at two of them. So the releases of one set say nothing of the others (parallel composition, McSherry 2009,
theorem 4), and a patient spends what is released about its own set only. Within a set releases add up in the ledger.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from client_app import baseline, comparison, group_counts
from client_app.asked import Round
from client_app.noise import noised_sums
from client_app.reasons.explained import explain
from client_app.rounds import load_received
from client_app.scores import logits_of, owners_of, positive_of, probabilities_of
from client_app.small_cells import without_small_cells
from client_app.training import Cohort
from fedfm.examples import Example
from fedfm.metrics.counts import clipped_loss, columns, patient_cells
from fedfm.plan import sd
from fedfm.privacy import Release
from fedfm.schedule import closing_round
from fedfm.wire import EvaluateReply

Table = NDArray[np.float64]


@dataclass(frozen=True)
class _Counts:
    """Noised counts of test patients; the fields of ``EvaluateReply`` of the same names."""

    cells: Table
    cells_sd: float
    groups: Mapping[str, Table]
    groups_sd: float


@dataclass(frozen=True)
class _Audited:
    """Noised sums over audit patients; the fields of ``EvaluateReply`` of the same names."""

    losses: Mapping[str, float]
    losses_sd: float
    audit_groups: Mapping[str, Table]
    audit_groups_sd: float


def evaluate(asked: Round) -> EvaluateReply:
    """Count how the received parameters do on test patients; sum losses and figures of reasons on audit patients.

    Raises:
        FedFMError: The site refuses. What was charged before stays charged.
    """
    started = time.monotonic()
    load_received(asked)
    counts = _count(asked)
    audited = _audit(asked)
    explained = explain(asked)
    alone, alone_sd = baseline.count_alone(asked)
    reply = EvaluateReply(
        site=asked.site.id,
        round=asked.request.round,
        **vars(counts),
        **vars(audited),
        **vars(explained),
        alone=alone,
        alone_sd=alone_sd,
        seconds=time.monotonic() - started,
        privacy=asked.spent(),
    )
    comparison.keep_figures(asked)  # after the answer is made, which knows nothing of it
    return without_small_cells(reply, asked)


def _count(asked: Round) -> _Counts:
    """Count test patients by label and score; in some rounds by groups, too."""
    study, plan = asked.study, asked.plan
    is_last = asked.request.round == closing_round(study)
    release, by_groups = plan.last_evaluation if is_last else plan.evaluation, group_counts.release_on_test(asked)
    asked.charge("test", "evaluation", release)
    if by_groups is not None:
        asked.charge("test", "groups", by_groups)
    prepared, positive = asked.prepared, positive_of(study)
    answers = _answers(asked, prepared.splits.test, prepared.test, _logits_of(asked, prepared.test))
    width = columns(len(study.task.labels), bins=study.evaluation.bins, is_last=is_last)
    cells = patient_cells(answers.probabilities, answers.labels, answers.units, bins=width, positive=positive)
    cells_sd = sd(release)
    groups: tuple[dict[str, Table], float] = ({}, 0.0)
    if by_groups is not None:
        groups = group_counts.count_on_test(asked, answers, by_groups, positive=positive)
    return _Counts(noised_sums(cells, cells_sd), cells_sd, *groups)


def _audit(asked: Round) -> _Audited:
    """Sum losses of audit patients, and count them by the groups that a rule asks for."""
    lost, counted = asked.plan.loss, group_counts.release_on_audit(asked)
    if lost is not None:
        asked.charge("audit", "loss", lost)
    if counted is not None:
        asked.charge("audit", "audit_groups", counted)
    if lost is None and counted is None:
        return _Audited({}, 0.0, {}, 0.0)
    prepared = asked.prepared
    logits = _logits_of(asked, prepared.audit)
    losses: tuple[dict[str, float], float] = ({}, 0.0) if lost is None else _sum_losses(asked, logits, lost)
    groups: tuple[dict[str, Table], float] = ({}, 0.0)
    if counted is not None:
        answers = _answers(asked, prepared.splits.audit, prepared.audit, logits)
        groups = group_counts.count_on_audit(asked, answers, counted, positive=positive_of(asked.study))
    return _Audited(*losses, *groups)


def _sum_losses(asked: Round, logits: Tensor, release: Release) -> tuple[dict[str, float], float]:
    """Sum the clipped loss of audit patients; without any the noise is sent, so that nobody learns that."""
    found = nn.functional.cross_entropy(logits, asked.prepared.audit.labels, reduction="none").numpy()
    by_record = asked.study.privacy.unit == "record"
    shares = clipped_loss(found, owners_of(asked.prepared.splits.audit, by_record=by_record))
    added = sd(release) * math.sqrt(2)  # a patient who comes or goes moves each of two sums by at most 1
    noisy = noised_sums(np.array([shares.sum(), len(shares)], dtype=np.float64), added)
    return dict(zip(("loss", "patients"), noisy.tolist(), strict=True)), added


def _answers(asked: Round, examples: Sequence[Example], cohort: Cohort, logits: Tensor) -> group_counts.Answers:
    units = owners_of(examples, by_record=asked.study.privacy.unit == "record")
    return group_counts.Answers(examples, probabilities_of(logits), cohort.labels.numpy(), units)


def _logits_of(asked: Round, cohort: Cohort) -> Tensor:
    return logits_of(asked.prepared.model, cohort, asked.prepared.micro_batch, len(asked.study.task.labels))

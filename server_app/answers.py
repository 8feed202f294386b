"""A site's answers, read and screened: what comes back may be combined, everything else is refused with the reason."""

from collections.abc import Collection
from dataclasses import dataclass

from flwr.app import Message

from fedfm.arrays import Arrays
from fedfm.config.study import Study
from fedfm.explain.sum_gates import counted
from fedfm.explanations import check_names, sum_names
from fedfm.metrics.counts import columns
from fedfm.plan import explains
from fedfm.privacy import SMALLEST_NOISE
from fedfm.schedule import audit_group_rounds, check_rounds, closing_round, explanation_rounds, group_rounds
from fedfm.signals import asks_losses, audit_attribute
from fedfm.wire import EvaluateReply, TrainReply
from fedfm.wire_records import evaluate_reply_from_records, train_reply_from_records
from server_app.evaluation import evaluate, positive_class
from server_app.roster import Member
from server_app.screening import (
    MAX_NOISE,
    NOISE_WIDTH,
    check_answer,
    screen_account,
    screen_counts,
    screen_update,
    within,
)
from server_app.screening_explanations import screen_explained, screen_half, screen_terms
from server_app.screening_sums import screen_alone, screen_groups, screen_losses


@dataclass(frozen=True)
class Question:
    """What was asked, of whom.

    Attributes:
        study: The study.
        round: Number of the round.
        member: The site, as it was welcomed.
        seen: Sites that have answered this question.
    """

    study: Study
    round: int
    member: Member
    seen: Collection[str]


def read_update(message: Message, question: Question, *, like: Arrays) -> TrainReply:
    """Return a site's answer to a round of training.

    Args:
        message: As it came; nothing about it is trusted.
        question: What was asked.
        like: Global parameters; their names and shapes are the reference.

    Raises:
        FedFMError: It may not be combined with the others'.
    """
    reply, member = train_reply_from_records(message.content), question.member
    _check_whose(reply, question)
    screen_update(
        reply.update,
        like=like,
        fingerprint=reply.layout,
        cohorts=(member.declared_patients, reply.declared_patients),
        steps=(reply.steps, question.study.training.local_steps),
    )
    _screen_check(reply, question)
    screen_account(reply.privacy, seconds=reply.seconds)
    return reply


def read_counts(message: Message, question: Question) -> EvaluateReply:
    """Return a site's answer to an evaluation.

    Raises:
        FedFMError: It may not be added to the others'.
    """
    reply, study, number = evaluate_reply_from_records(message.content), question.study, question.round
    _check_whose(reply, question)
    classes, declared = len(study.task.labels), question.member.declared_patients
    is_closing = number == closing_round(study)
    width = columns(classes, bins=study.evaluation.bins, is_last=is_closing)
    shapes = [*_shapes(study, width), *_withheld(study)]
    screen_counts(reply.cells, reply.cells_sd, shapes=shapes, declared_patients=declared)
    of_groups = columns(classes, bins=study.evaluation.group_bins, is_last=is_closing)
    for tables, sd, attributes, columns_of in (
        (reply.groups, reply.groups_sd, _counted(study, number), of_groups),
        (reply.audit_groups, reply.audit_groups_sd, _counted_on_audit(study, number), classes),
    ):
        shapes = _shapes(study, columns_of)
        screen_groups(tables, sd, attributes=attributes, shapes=shapes, declared_patients=declared)
    shapes = _shapes(study, width) if study.baseline.method == "alone" and is_closing else []
    screen_alone(reply.alone, reply.alone_sd, shapes=shapes, declared_patients=declared)
    screen_losses(reply.losses, reply.losses_sd, is_asked=asks_losses(study), declared_patients=declared)
    _screen_reasons(reply, question)
    _screen_audit_noise(
        study,
        losses_sd=(reply.losses, reply.losses_sd),
        audit_groups_sd=(reply.audit_groups, reply.audit_groups_sd),
        explanation_sd=(reply.explanation, reply.explanation_sd),
        terms_sd=(reply.terms.size, reply.terms_sd),
        term_documents_sd=(reply.terms.size, reply.term_documents_sd),
    )
    screen_account(reply.privacy, seconds=reply.seconds)
    evaluate([reply], positive=positive_class(study.task))  # what fails alone would fail all together
    return reply


def _check_whose(reply: TrainReply | EvaluateReply, question: Question) -> None:
    check_answer(
        reply.site, expected=question.member.site, seen=question.seen, answered=reply.round, asked=question.round
    )


def _screen_check(reply: TrainReply, question: Question) -> None:
    """Screen what a site says of the reasons of its own model; what it asks for depends on it."""
    study = question.study
    is_asked = explains(study) and question.round in check_rounds(study)
    names, declared = check_names(study) if is_asked else (), question.member.declared_patients
    screen_explained(reply.check, reply.check_sd, names=names, what="check", declared_patients=declared)
    _screen_audit_noise(study, check_sd=(reply.check, reply.check_sd))
    failed = counted(study, question.round, reply.check, sd=reply.check_sd)
    screen_half(failed, is_downweighted=reply.downweighted)


def _screen_reasons(reply: EvaluateReply, question: Question) -> None:
    """Screen what a site says of the reasons of the global model."""
    study, declared = question.study, question.member.declared_patients
    is_asked = explains(study) and question.round in explanation_rounds(study)
    names = sum_names(study) if is_asked else ()
    sums, noise = reply.explanation, reply.explanation_sd
    screen_explained(sums, noise, names=names, what="explanation", declared_patients=declared)
    size = len(study.explainability.vocabulary) if is_asked else 0
    most, added = sums.get("documents", 0.0) + NOISE_WIDTH * noise, (reply.terms_sd, reply.term_documents_sd)
    screen_terms(reply.terms, added, size=size, declared_patients=declared, documents=most)


def _screen_audit_noise(study: Study, **told: tuple[object, float]) -> None:
    """Refuse figures of audit patients that come with less noise than any plan has: others count less beside them.

    Args:
        study: The study.
        told: The field of the noise to what comes with it, empty where nothing does, and the noise that is stated.
    """
    least = 0.0 if study.privacy.mechanism == "none" else SMALLEST_NOISE
    for name, (sent, stated) in told.items():
        within("ROUND-E015", name, stated, (least if sent else 0.0, MAX_NOISE))


def _shapes(study: Study, width: int) -> list[tuple[int, int]]:
    """Return the shapes in which counts of so many columns may come: exact ones may be coarser.

    A site makes them so where they would show few patients (``client_app.small_cells``); of noised counts, what it
    makes coarser would tell of its patients.
    """
    classes = len(study.task.labels)
    coarse = columns(classes, bins=2, is_last=True)
    return [(classes, k) for k in dict.fromkeys((width, coarse) if _is_exact(study) else (width,))]


def _withheld(study: Study) -> list[tuple[int, int]]:
    """Return the shape of cells that a site withholds; exact ones only, as in ``_shapes``."""
    return [(len(study.task.labels), 0)] if _is_exact(study) else []


def _is_exact(study: Study) -> bool:
    return study.evaluation.release == "exact" or study.privacy.mechanism == "none"


def _counted(study: Study, number: int) -> list[str]:
    return [*study.task.groups, *study.task.intersections] if number in group_rounds(study) else []


def _counted_on_audit(study: Study, number: int) -> list[str]:
    attribute = audit_attribute(study)
    return [attribute] if attribute and number in audit_group_rounds(study) else []

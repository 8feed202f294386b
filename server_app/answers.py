"""A site's answers, read and screened: what comes back may be combined, everything else is refused with the reason."""

from collections.abc import Collection
from dataclasses import dataclass

from flwr.app import Message

from fedfm.arrays import Arrays, norm
from fedfm.config.study import Study
from fedfm.metrics.counts import columns
from fedfm.schedule import audit_group_rounds, closing_round, group_rounds
from fedfm.signals import asks_losses, audit_attribute
from fedfm.wire import EvaluateReply, TrainReply
from fedfm.wire_records import evaluate_reply_from_records, train_reply_from_records
from server_app.evaluation import evaluate, positive_class
from server_app.roster import Member
from server_app.screening import MAX_NOISE, check_answer, screen_account, screen_counts, screen_update, within
from server_app.screening_sums import screen_groups, screen_losses, unasked


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


def read_update(message: Message, question: Question, *, like: Arrays) -> tuple[TrainReply, float]:
    """Return a site's answer to a round of training, and the norm of its update.

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
    screen_account(**vars(reply.privacy), seconds=reply.seconds)
    return reply, norm(reply.update)


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
    noise = (reply.cells_sd, reply.explanation_sd)
    screen_counts(reply.cells, reply.explanation, shape=(classes, width), noise=noise, declared_patients=declared)
    for tables, sd, attributes in (
        (reply.groups, reply.groups_sd, _counted(study, number)),
        (reply.audit_groups, reply.audit_groups_sd, _counted_on_audit(study, number)),
    ):
        screen_groups(tables, sd, attributes=attributes, classes=classes, declared_patients=declared)
    _screen_alone(reply, study, is_closing=is_closing, declared_patients=declared)
    screen_losses(reply.losses, reply.losses_sd, is_asked=asks_losses(study), declared_patients=declared)
    screen_account(**vars(reply.privacy), seconds=reply.seconds)
    evaluate([reply], positive=positive_class(study.task))  # what fails alone would fail all together
    return reply


def _check_whose(reply: TrainReply | EvaluateReply, question: Question) -> None:
    check_answer(
        reply.site, expected=question.member.site, seen=question.seen, answered=reply.round, asked=question.round
    )


def _screen_alone(reply: EvaluateReply, study: Study, *, is_closing: bool, declared_patients: int) -> None:
    """Let through only counts of a model trained alone that were asked for, as ``cells``; or none: withheld."""
    within("ROUND-E015", "alone_sd", reply.alone_sd, (0.0, MAX_NOISE))
    if not reply.alone.size:
        return
    if not (is_closing and study.baseline.method == "alone"):
        raise unasked("counts of a model trained alone", str(reply.alone.shape), "none in this round")
    shape = (len(study.task.labels), columns(len(study.task.labels), bins=study.evaluation.bins, is_last=True))
    screen_counts(reply.alone, {}, shape=shape, noise=(reply.alone_sd, 0.0), declared_patients=declared_patients)


def _counted(study: Study, number: int) -> list[str]:
    return [*study.task.groups, *study.task.intersections] if number in group_rounds(study) else []


def _counted_on_audit(study: Study, number: int) -> list[str]:
    attribute = audit_attribute(study)
    return [attribute] if attribute and number in audit_group_rounds(study) else []

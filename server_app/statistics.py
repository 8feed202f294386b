"""The statistics before round 1: every site's sums are asked for once, screened, added up, and told."""

import math
import time
from collections.abc import Callable, Mapping

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid

from fedfm.arrays import Arrays
from fedfm.config.compose import study_to_json
from fedfm.config.study import Study
from fedfm.plan import default_delta, plan, sd
from fedfm.statistics import Statistics, bound, for_model, pooled, width
from fedfm.wire import Request, SummariseReply
from fedfm.wire_records import request_to_records, summarise_reply_from_records, with_heads
from server_app.refusals import refusal, refusal_of
from server_app.report.event_log import EventLog
from server_app.report.events import Noised, SiteLeftOut, SiteSummarised, StatisticsPooled
from server_app.roster import Member, Roster
from server_app.rounds import exchange
from server_app.screening import check_answer, screen_account, screen_sums

_MORE_NOISE = 10  # times what is planned here: a site's own delta may be smaller


def gather_sums(
    grid: Grid, roster: Roster, *, study: Study, run: str, size: int, log: EventLog
) -> dict[str, SummariseReply]:
    """Ask every member for its sums and return those that may be added up; a site left out is named, with the reason.

    Args:
        grid: Flower's Grid.
        roster: The sites, all of which are asked.
        study: With ``standardize.method`` global.
        run: Name of the run.
        size: K, how many sums a site sends.
        log: Where answers and refusals are told.
    """
    content, minutes = request_to_records(Request(run, study_to_json(study), 0, "")), study.round_minutes
    messages = [
        Message(
            with_heads(content, roster.ledgers.of(member.site)),
            member.node_id,
            "query.summarise",
            ttl=60 * minutes + 60,
            group_id="0",
        )
        for member in roster.members.values()
    ]
    accepted: dict[str, SummariseReply] = {}
    for message in exchange(grid, messages, deadline_seconds=60 * minutes):
        site = roster.name(message.metadata.src_node_id)
        if message.has_error():
            log.emit(SiteLeftOut(site, 0, "statistics", *refusal(message.error)))
            continue
        try:
            reply = summarise_reply_from_records(message.content)
            check_answer(reply.site, expected=site, seen=accepted, answered=reply.round, asked=0)
            _screen(reply, roster.members[site], study=study, size=size)
            roster.ledgers.note(reply.site, reply.privacy)
        except Exception as problem:  # whatever one site sends, the others go on
            log.emit(SiteLeftOut(site, 0, "statistics", *refusal_of(problem)))
            continue
        accepted[site] = reply
        log.emit(SiteSummarised(site, reply.seconds, reply.privacy))
    return accepted


def pool_statistics(  # noqa: PLR0913 - those of gather_sums, and the quorum
    grid: Grid,
    roster: Roster,
    *,
    study: Study,
    run: str,
    like: Arrays,
    log: EventLog,
    check_quorum: Callable[[int], None],
) -> Arrays:
    """Return what the model's input is standardised by, from the sums of the sites that are here.

    Args:
        grid: Flower's Grid.
        roster: The sites; those that come later get the same.
        study: With ``standardize.method`` global.
        run: Name of the run.
        like: The first global parameters; of a text model they tell its width.
        log: Where answers, refusals and what they say together are told.
        check_quorum: Raises where so few sites are not enough.
    """
    started = time.monotonic()
    size = width(study, inputs=len(study.task.columns) or like["head.weight"].shape[1])
    replies = gather_sums(grid, roster, study=study, run=run, size=size, log=log)
    check_quorum(len(replies))
    found = pool(study, replies, roster.members)
    log.emit(told(study, found, sites=tuple(sorted(replies)), started=started))
    return for_model(found, study)


def pool(study: Study, replies: Mapping[str, SummariseReply], members: Mapping[str, Member]) -> Statistics:
    """Return what the sums of all these sites say together; each counts by its own patients.

    Args:
        study: That the sums were taken for.
        replies: Site to its sums, screened; one or more.
        members: At least these sites.
    """
    ordered = sorted(replies)
    return pooled(
        study,
        np.sum([replies[site].sums for site in ordered], axis=0),
        sums_sd=math.hypot(*(replies[site].sums_sd for site in ordered)),
        declared=sum(members[site].declared_patients for site in ordered),
    )


def told(study: Study, found: Statistics, *, sites: tuple[str, ...], started: float) -> StatisticsPooled:
    """Return the event of pooled statistics, columns in their own units.

    Args:
        study: Names labels and columns.
        found: The statistics.
        sites: Whose patients they are of.
        started: When the sites were asked, in seconds of the monotonic clock.
    """
    shares = zip(study.task.labels, found.prevalence.tolist(), strict=True)
    states: dict[str, Noised] = {}
    if study.task.inputs == "text":
        length = float(np.linalg.norm(found.mean))
        states = {
            "mean": Noised(length, float(np.linalg.norm(found.mean_sd))),
            "deviation": Noised(float(found.deviation[0]), float(found.deviation_sd[0])),
        }
    return StatisticsPooled(
        sites=sites,
        seconds=time.monotonic() - started,
        prevalence={label: Noised(share, found.prevalence_sd) for label, share in shares},
        columns=_columns(study, found) if study.task.inputs == "columns" else {},
        states=states,
    )


def _columns(study: Study, found: Statistics) -> dict[str, dict[str, Noised]]:
    told_of = {}
    for index, column in enumerate(study.task.columns):
        half = (column.high - column.low) / 2
        told_of[column.name] = {
            "missing": Noised(float(found.missing[index]), found.missing_sd),
            "mean": Noised(column.low + half * (float(found.mean[index]) + 1), half * float(found.mean_sd[index])),
            "deviation": Noised(half * float(found.deviation[index]), half * float(found.deviation_sd[index])),
        }
    return told_of


def _screen(reply: SummariseReply, member: Member, *, study: Study, size: int) -> None:
    screen_account(reply.privacy, seconds=reply.seconds)
    declared, least = member.declared_patients, bound(study)
    delta = default_delta(declared) if study.privacy.delta is None else study.privacy.delta
    release = plan(study, delta=delta).statistics
    planned = sd(release) * least if release else 0.0
    largest_noise = _MORE_NOISE * planned
    screen_sums(reply.sums, size=size, noise=(reply.sums_sd, largest_noise), bound=least, declared_patients=declared)

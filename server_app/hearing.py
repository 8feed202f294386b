"""The sites' answers as they arrive: whoever passes is heard, everyone else is left out by name."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from flwr.app import Message

from fedfm.arrays import Arrays, norm
from fedfm.config.study import Study
from fedfm.wire import EvaluateReply, TrainReply
from server_app.answers import Question, read_update
from server_app.pace import Pace
from server_app.reasons.explained import checked
from server_app.refusals import refusal, refusal_of
from server_app.report.event_log import EventLog
from server_app.report.events import SiteLeftOut, SiteTrained
from server_app.roster import Roster
from server_app.updates import Updates

Reply = TypeVar("Reply", TrainReply, EvaluateReply)


@dataclass(frozen=True)
class Hearing:
    """What every answer of a run is held against.

    Attributes:
        study: The study.
        roster: The sites, as they were welcomed.
        log: Where it is told who was left out.
        pace: Remembers how long each answer took.
    """

    study: Study
    roster: Roster
    log: EventLog
    pace: Pace

    def updates(self, number: int, messages: Iterable[Message], *, like: Arrays, to: Updates) -> dict[str, TrainReply]:
        """Put what may be combined into ``to`` as it arrives, and return what each of these sites said beside.

        Args:
            number: The round.
            messages: Answers, or Flower's error replies.
            like: Global parameters; their names and shapes are the reference.
            to: Where the updates are gathered, on disk: they need not stay in memory.
        """
        accepted: dict[str, TrainReply] = {}
        for site, reply in self.passing(number, "training", messages, partial(read_update, like=like)):
            to.append(site, reply.update)
            accepted[site] = replace(reply, update={})
            size, length = sum(array.nbytes for array in reply.update.values()), norm(reply.update)
            self.log.emit(SiteTrained(site, number, reply.seconds, length, size, reply.privacy))
            for said in checked(reply, self.study):
                self.log.emit(said)
        return accepted

    def passing(
        self, number: int, phase: str, messages: Iterable[Message], read: Callable[[Message, Question], Reply]
    ) -> Iterator[tuple[str, Reply]]:
        """Yield each site's answer that passes, as it arrives; whatever one site sends, the others go on.

        Args:
            number: The round.
            phase: ``training`` or ``evaluation``.
            messages: Answers, or Flower's error replies.
            read: Returns the answer, or raises where it may not be used.
        """
        heard: dict[str, Reply] = {}
        started = time.monotonic()
        for message in messages:
            site = self.hear(number, phase, message, read, heard)
            if site:
                self.pace.note(site, phase, number, time.monotonic() - started)
                yield site, heard[site]

    def hear(
        self,
        number: int,
        phase: str,
        message: Message,
        read: Callable[[Message, Question], Reply],
        heard: dict[str, Reply],
    ) -> str:
        """Put an answer that passes into ``heard`` and return the site; an empty text where it does not.

        Args:
            number: The round.
            phase: ``training`` or ``evaluation``.
            message: An answer, or Flower's error reply.
            read: As in ``passing``.
            heard: The answers to this question so far, by site.
        """
        site = self.roster.name(message.metadata.src_node_id)
        if message.has_error():
            self._leave_out(site, number, phase, refusal(message.error))
            return ""
        try:
            reply = read(message, Question(self.study, number, self.roster.members[site], heard))
            self.roster.ledgers.note(site, reply.privacy)
        except Exception as problem:
            self._leave_out(site, number, phase, refusal_of(problem))
            return ""
        heard[site] = reply
        return site

    def _leave_out(self, site: str, number: int, phase: str, refused: tuple[str, str]) -> None:
        self.log.emit(SiteLeftOut(site, number, phase, *refused))

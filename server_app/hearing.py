"""The sites' answers as they arrive: whoever passes is heard, everyone else is left out by name."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from flwr.app import Message

from fedfm.config.study import Study
from fedfm.wire import EvaluateReply, TrainReply
from server_app.answers import Question
from server_app.refusals import refusal, refusal_of
from server_app.report.event_log import EventLog
from server_app.report.events import SiteLeftOut
from server_app.roster import Roster

Reply = TypeVar("Reply", TrainReply, EvaluateReply)


@dataclass(frozen=True)
class Hearing:
    """What every answer of a run is held against.

    Attributes:
        study: The study.
        roster: The sites, as they were welcomed.
        log: Where it is told who was left out.
    """

    study: Study
    roster: Roster
    log: EventLog

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
        seen: set[str] = set()
        for message in messages:
            site = self.roster.name(message.metadata.src_node_id)
            if message.has_error():
                self._leave_out(site, number, phase, refusal(message.error))
                continue
            try:
                reply = read(message, Question(self.study, number, self.roster.members[site], seen))
                self.roster.ledgers.note(site, reply.privacy)
            except Exception as problem:
                self._leave_out(site, number, phase, refusal_of(problem))
                continue
            seen.add(site)
            yield site, reply

    def _leave_out(self, site: str, number: int, phase: str, refused: tuple[str, str]) -> None:
        self.log.emit(SiteLeftOut(site, number, phase, *refused))

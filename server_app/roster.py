"""The sites of a run: who was welcomed, who refused, who never came."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from flwr.app import Message
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid

from fedfm.config.compose import study_to_json
from fedfm.config.study import Study
from fedfm.errors import IncompatibleUpdate
from fedfm.wire import Description, Request
from fedfm.wire_records import description_from_records, request_to_records, with_heads
from server_app.ledgers import Ledgers
from server_app.refusals import refusal, refusal_of
from server_app.report.event_log import EventLog
from server_app.report.events import Event, SiteJoined, SiteLeftOut, SiteQuarantined
from server_app.rounds import POLL_SECONDS
from server_app.screening import screen_account, screen_cohort

_LOGGER = logging.getLogger("server_app")


@dataclass(frozen=True)
class Member:
    """A welcomed site, the Flower node that speaks for it, and the cohort that it counts with."""

    site: str
    node_id: int
    declared_patients: int


class Roster:
    """Asks every node that is seen for its description, once, and keeps the answers.

    A site's identity is the name under which its key was registered, where Flower gives one; the name
    in its answers must be the same.

    Args:
        study: Says how many sites are needed, which are expected and how long to wait.
        run: Name of the run.
        events: Where joining and refusing is told.
        ledgers: What is remembered of the sites' ledgers.
    """

    def __init__(self, study: Study, *, run: str, events: EventLog, ledgers: Ledgers) -> None:
        self.members: dict[str, Member] = {}
        self._study, self._run, self._layout, self._events = study, run, "", events
        self.ledgers = ledgers
        self._names: dict[int, str] = {}  # every node ever seen, and its registered name
        self._pending: dict[str, int] = {}  # message id to node
        self._refused: set[str] = set()
        self._quarantined: set[str] = set()
        self._told = ""

    def name(self, node_id: int) -> str:
        """Return the best name there is for a node."""
        welcomed = (member.site for member in self.members.values() if member.node_id == node_id)
        return next(welcomed, self._names.get(node_id) or f"node {node_id}")

    @property
    def lifetime(self) -> float:
        """Seconds after which Flower drops a question: it must not outlive the round by much."""
        return 60 * self._study.round_minutes + 60

    def quarantine(self, found: Iterable[SiteQuarantined]) -> None:
        """Ask these sites no more, whichever node speaks for them, and tell it once."""
        for event in found:
            if event.site in self.members:
                self._events.emit(event)
            self.hear(event)

    def hear(self, event: Event) -> None:
        """Take what an event of this run, before it was interrupted, says of who is asked."""
        if isinstance(event, SiteQuarantined):
            self._refused.add(event.site)
            self._quarantined.add(event.site)
            self.members.pop(event.site, None)

    def gather(self, grid: Grid, layout: str) -> None:
        """Wait until the expected sites, or enough sites, have answered, or there is no more hope.

        Sites that are not connected are waited for ``start_minutes``; connected ones that still load
        their data, as long as a round may take. One that has refused is not asked again in this run, so nothing is
        waited for where all have refused that are there, and these are as many as the study needs. What is waited for
        is said on the console.

        Args:
            grid: Flower's Grid.
            layout: Fingerprint of the global parameters; a site that would train others is refused, now and later.
        """
        start, self._layout = time.monotonic(), layout
        self.poll(grid, round_number=0)
        while not self._is_complete() and time.monotonic() - start < 60 * self._patience_minutes():
            self._tell_what_is_waited_for()
            time.sleep(POLL_SECONDS)
            self.poll(grid, round_number=0)
        silent = {self.name(node_id) for node_id in self._pending.values()}
        absent = set(self._study.sites) - set(self.members) - self._refused
        for site in sorted(silent | absent):
            reason = (
                f"connected, but gave no answer within {self._study.round_minutes:g} minutes"
                if site in silent
                else f"not connected within {self._study.start_minutes:g} minutes"
            )
            self._events.emit(SiteLeftOut(site, 0, "start", "ROUND-E001", reason))

    def poll(self, grid: Grid, *, round_number: int) -> None:
        """Ask nodes that were not seen before, and take the answers that are there; does not wait."""
        newcomers = [node for node in grid.get_nodes() if node.node_id not in self._names]
        self._names.update({node.node_id: node.name for node in newcomers})
        asked = [node for node in newcomers if self._is_wanted(node.name)]
        if asked:
            self._ask(grid, asked)
        if self._pending:
            for reply in grid.pull_messages(list(self._pending)):
                self._take(reply, round_number)

    def _ask(self, grid: Grid, nodes: list[NodeInfo]) -> None:
        records = request_to_records(
            Request(run=self._run, study=study_to_json(self._study), round=0, layout=self._layout)
        )
        questions = [
            Message(
                with_heads(records, self.ledgers.of(node.name)),
                dst_node_id=node.node_id,
                message_type="query.describe",
            )
            for node in nodes
        ]
        ids = grid.push_messages(questions)
        self._pending.update({taken: node.node_id for taken, node in zip(ids, nodes, strict=False) if taken})

    def _patience_minutes(self) -> float:
        """Who is connected and still loads its data may take as long as a round; who is not, ``start_minutes``."""
        return self._study.round_minutes if self._pending else self._study.start_minutes

    def _is_wanted(self, name: str) -> bool:
        return not (name and self._study.sites) or name in self._study.sites

    def _is_complete(self) -> bool:
        expected = set(self._study.sites)
        if expected:
            return expected <= set(self.members) | self._refused
        answered = self.members or self._refused
        return len(answered) >= self._study.min_sites and not self._pending

    def _tell_what_is_waited_for(self) -> None:
        """Say whom the run waits for and how long, once for each change; not while sites still answer."""
        if self._pending:
            return
        missing = sorted(set(self._study.sites) - set(self.members) - self._refused)
        who = ", ".join(missing) or f"more sites: {len(self.members)} of at least {self._study.min_sites} take part"
        refused = f"; not for {', '.join(sorted(self._refused))}, who refused" if self._refused else ""
        told = f"Waiting up to {self._study.start_minutes:g} minutes (start_minutes) for {who}{refused}"
        if told != self._told:
            _LOGGER.info("%s", told)
        self._told = told

    def _take(self, reply: Message, round_number: int) -> None:
        node_id = self._pending.pop(reply.metadata.reply_to_message_id, None)
        if node_id is None:
            return
        if reply.has_error():
            self._refuse(node_id, round_number, *refusal(reply.error))
            return
        try:
            description = description_from_records(reply.content)
            self._check(description, node_id)
            screen_cohort(description.declared_patients)
            screen_account(description.privacy)
            self.ledgers.note(description.site, description.privacy)
        except Exception as problem:  # whatever one site sends, the others go on
            self._refuse(node_id, round_number, *refusal_of(problem))
            return
        self.members[description.site] = Member(description.site, node_id, description.declared_patients)
        self._events.emit(
            SiteJoined(
                site=description.site,
                round=round_number,
                declared_patients=description.declared_patients,
                device=description.device,
                groups=description.groups,
                privacy=description.privacy,
            )
        )

    def _refuse(self, node_id: int, round_number: int, code: str, reason: str) -> None:
        site = self.name(node_id)
        self._refused.add(site)
        self._events.emit(SiteLeftOut(site, round_number, "start", code, reason))

    def _check(self, description: Description, node_id: int) -> None:
        """Refuse a stranger, a second node of one site, and a site that would train another model."""
        registered, site = self._names[node_id], description.site
        if registered and site != registered:
            raise IncompatibleUpdate(
                "ROUND-E017",
                "an answer under another name",
                found=site[:80],
                allowed=registered,
                fix="set id in site.yaml to the name that was registered with the coordinator",
            )
        if self._study.sites and site not in self._study.sites:
            raise IncompatibleUpdate("ROUND-E003", "not among the study's sites", found=site[:80])
        if site in self._quarantined:
            raise IncompatibleUpdate(
                "ROUND-E032",
                "the site sent unusable answers again and again, and is no longer asked in this run",
                found=site[:80],
                fix="look at the site's log and mend it; it may take part in the next run",
            )
        if site in self.members:
            raise IncompatibleUpdate("ROUND-E016", "a second node under the name of one site", found=site[:80])
        if description.layout != self._layout:
            raise IncompatibleUpdate(
                "ROUND-E011",
                "the site would train another model or adapter",
                found=description.layout[:12],
                allowed=self._layout[:12],
                fix="use the same release of fedfm and the same weights at every site",
            )

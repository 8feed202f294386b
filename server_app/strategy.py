"""The coordinator's half of Algorithm 1 (Li, Peng, Wang and Zhang 2025), on Flower's FedAvg."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result

from fedfm.arrays import Arrays, layout, norm
from fedfm.config.compose import study_to_json
from fedfm.config.study import Study
from fedfm.records import write_arrays
from fedfm.schedule import closing_round, evaluation_rounds
from fedfm.statistics import for_model, width
from fedfm.wire import EvaluateReply, Request, TrainReply
from server_app.aggregation import Aggregation, frozen_of
from server_app.answers import Question, read_counts, read_update
from server_app.attendance import Attendance
from server_app.choice import Choice
from server_app.contribution import Contribution
from server_app.evaluation import evaluate, positive_class
from server_app.ledgers import Ledgers
from server_app.model_host import keep_checkpoint, keep_statistics, take_checkpoint
from server_app.reasons.explained import checked
from server_app.reasons.explaining import Explaining
from server_app.reasons.reference_audit import Loaded
from server_app.refusals import refusal, refusal_of
from server_app.registry import bind
from server_app.report import evaluated, events
from server_app.requests import requests
from server_app.roster import Member, Roster
from server_app.rounds import exchange
from server_app.selection import SELECTIONS, Draw
from server_app.signals import Signals
from server_app.statistics import gather_sums, pool, told
from server_app.tolerances import judge, stop_if_asked
from server_app.updates import Updates

_Reply = TypeVar("_Reply", TrainReply, EvaluateReply)


class FairFedAvg(FedAvg):
    """Averages the updates of hospitals with the study's rules.

    In place of Flower's loop stands one with a quorum, a deadline, a checkpoint after each round and an event for
    whatever goes wrong; a bad answer of one site is left out by name and never ends the run.

    Args:
        study: Resolved study.
        run: Name of the run; makes the sites' privacy charges unique.
        folder: Where checkpoints are kept.
        log: Where events go.
        ledgers: What is remembered of the sites' ledgers, over runs.
        frozen: What the sites load in round 1 beside the parameters (``server_app.model_host.first_frozen``).

    Attributes:
        statistics: What the model's input is standardised by, after ``start``; empty where nothing is pooled.

    Raises:
        ConfigError: A rule of the study does not exist, or its parameters do not fit.
    """

    def __init__(
        self,
        study: Study,
        *,
        run: str,
        folder: Path,
        log: events.EventLog,
        ledgers: Ledgers,
        frozen: Arrays | None = None,
    ) -> None:
        super().__init__(
            min_train_nodes=study.min_sites, min_evaluate_nodes=study.min_sites, min_available_nodes=study.min_sites
        )
        self._study, self._run, self._folder, self._log, self._ledgers = study, run, folder, log, ledgers
        self._study_json = study_to_json(study)
        self._select = bind(SELECTIONS, study.selection, group="selection")
        self._aggregation = Aggregation(study, frozen)
        self._signals = Signals(positive_class(study.task))
        self._attendance, self._choice = Attendance(), Choice(study.fairness.final)
        self._contribution, self._explaining = Contribution(study, log), Explaining(study, log)
        log.listen(self._attendance.hear)
        self._parameters: Arrays = {}
        self.statistics: Arrays = {}
        self._roster = self._new_roster("")

    @property
    def frozen(self) -> Arrays:
        """What the sites load beside the parameters, as they are now; empty where they keep what is built."""
        return self._aggregation.frozen

    def start(self, grid: Grid, initial_arrays: ArrayRecord) -> Result:  # type: ignore[override]
        """Run the study; its rounds and deadlines are the study's, so Flower's arguments for them are not taken.

        Returns:
            Flower's result; ``arrays`` are the final global parameters.

        Raises:
            EngineError: Fewer sites than ``min_sites`` could be averaged.
        """
        # Algorithm 1, line 3: the global model, as study and seed give it
        arrays = initial_arrays
        self._roster = self._new_roster(layout(_numpy(arrays)))
        self._roster.gather(grid)
        self._check_quorum(len(self._roster.members), "start")
        if self._study.standardize.method == "global":
            self._pool_statistics(grid, _numpy(arrays))
        # Algorithm 1, line 4
        for number in range(1, self._study.rounds + 1):
            self._roster.poll(grid, round_number=number)
            arrays = self._train(number, arrays, grid)
            kept, others = self._aggregation.kept(), self._choice.rounds
            keep_checkpoint(self._folder, round_number=number, parameters=self._parameters, rules=kept, others=others)
            self._explaining.stop_if_asked(number)
            if number in evaluation_rounds(self._study):
                self._evaluate(number, arrays, grid)
        if self._study.fairness.final == "best":
            arrays = self._choose(grid)
        # Algorithm 1, line 15
        result = Result()
        result.arrays = arrays
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask the selected sites to train from ``arrays``; ``config`` is not used, the study says all."""
        self._parameters = _numpy(arrays)
        # Algorithm 1, line 5
        known = self._attendance.candidates(server_round, self._roster.members.values(), self._signals.losses)
        draw = Draw(server_round, self._study.seed, self._study.min_sites, known)
        sites = self._select(tuple(self._roster.members), draw)
        size = sum(array.nbytes for sent in (self._parameters, self.frozen) for array in sent.values())
        self._log.emit(events.RoundStarted(server_round, sites, size))
        # Algorithm 1, line 6
        return self._requests(server_round, MessageType.TRAIN, [self._roster.members[site] for site in sites])

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return the next global parameters, from the updates that pass the screening.

        Raises:
            EngineError: Fewer than ``min_sites`` passed.
        """
        start = time.monotonic()
        # Algorithm 1, line 12
        with Updates(self._parameters, self._folder) as updates:
            accepted = self._accept_updates(server_round, replies, updates)
            self._check_quorum(len(accepted), "training", server_round)
            received = Loaded(self._parameters, self.frozen)
            found = self._aggregation.aggregate(self._parameters, updates, accepted, self._signals)
            before, self._parameters = received.parameters, found.parameters
            self._log.emit(
                events.RoundCombined(
                    round=server_round,
                    weights=dict(zip(updates.sites, found.weights.tolist(), strict=True)),
                    update_norm=norm({name: self._parameters[name] - before[name] for name in before}),
                    seconds=time.monotonic() - start,
                    fallen_back=found.weighed.fallen_back,
                    halved=found.halved,
                )
            )
            self._contribution.measure(server_round, before, updates, found.combined, self.statistics)
            made = Loaded(self._parameters, self.frozen)
            self._explaining.measure(server_round, received, made, updates, self.statistics)
        return write_arrays(self._parameters), None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every site, selected or not, to count the global model's answers on its test patients."""
        self._parameters = _numpy(arrays)
        return self._requests(server_round, MessageType.EVALUATE, list(self._roster.members.values()))

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Add up the sites' counts and tell what they say; figures go to the events, not to Flower."""
        start = time.monotonic()
        accepted = dict(self._accepted(server_round, "evaluation", replies, read_counts))
        if not accepted:
            return None
        self._signals.hear(accepted.values())
        judged = evaluate(list(accepted.values()), positive=positive_class(self._study.task))
        seconds, terms = time.monotonic() - start, self._study.explainability.vocabulary
        for event in evaluated.told(server_round, judged, accepted, seconds=seconds, vocabulary=terms):
            self._log.emit(event)
        self._choice.note(server_round, judged, self._signals)
        beyond = judge(self._study.fairness, judged, number=server_round)
        for excess in beyond:
            self._log.emit(excess)
        stop_if_asked(beyond)
        return None

    def _new_roster(self, fingerprint: str) -> Roster:
        return Roster(self._study, run=self._run, layout=fingerprint, events=self._log, ledgers=self._ledgers)

    def _pool_statistics(self, grid: Grid, parameters: Arrays) -> None:
        """Standardise by the sums of the sites that are here; those that come later get the same."""
        started, study, members = time.monotonic(), self._study, self._roster.members
        columns = len(study.task.columns) or parameters["head.weight"].shape[1]
        size = width(study, inputs=columns)
        replies = gather_sums(grid, self._roster, study=study, run=self._run, size=size, log=self._log)
        self._check_quorum(len(replies), "statistics")
        found = pool(study, replies, members)
        self._log.emit(told(study, found, sites=tuple(sorted(replies)), started=started))
        self.statistics = for_model(found, study)
        keep_statistics(self._folder, self.statistics)

    def _train(self, number: int, arrays: ArrayRecord, grid: Grid) -> ArrayRecord:
        messages = self.configure_train(number, arrays, ConfigRecord(), grid)
        replies = exchange(grid, messages, deadline_seconds=60 * self._study.round_minutes)
        combined, _ = self.aggregate_train(number, replies)
        return combined or arrays

    def _evaluate(self, number: int, arrays: ArrayRecord, grid: Grid) -> None:
        # Algorithm 1, line 13
        messages = self.configure_evaluate(number, arrays, ConfigRecord(), grid)
        replies = exchange(grid, messages, deadline_seconds=60 * self._study.round_minutes)
        self.aggregate_evaluate(number, replies)

    def _choose(self, grid: Grid) -> ArrayRecord:
        """Return the model that served the audit patients best, evaluated once more, as the closing round."""
        chosen = self._choice.choose(last=self._study.rounds, marked=self._explaining.marked)
        self._log.emit(chosen)
        parameters, kept = take_checkpoint(self._folder, round_number=chosen.round)
        self._aggregation.frozen = frozen_of(kept)
        arrays = write_arrays(parameters)
        self._evaluate(closing_round(self._study), arrays, grid)
        return arrays

    def _requests(self, number: int, message_type: str, members: list[Member]) -> list[Message]:
        request = Request(
            run=self._run,
            study=self._study_json,
            round=number,
            layout=layout(self._parameters),
            parameters=self._parameters,
            frozen=self.frozen,
            statistics=self.statistics,
        )
        return requests(request, members, self._ledgers, message_type=message_type, minutes=self._study.round_minutes)

    def _accept_updates(self, number: int, messages: Iterable[Message], updates: Updates) -> dict[str, TrainReply]:
        """Put what may be combined into ``updates``, and return what each of these sites said beside."""
        accepted: dict[str, TrainReply] = {}
        read = partial(read_update, like=self._parameters)
        for site, reply in self._accepted(number, "training", messages, read):
            updates.append(site, reply.update)
            accepted[site] = replace(reply, update={})  # on disk; it need not stay in memory
            size, length = sum(array.nbytes for array in reply.update.values()), norm(reply.update)
            self._log.emit(events.SiteTrained(site, number, reply.seconds, length, size, reply.privacy))
            for said in checked(reply, self._study):
                self._log.emit(said)
        return accepted

    def _accepted(
        self, number: int, phase: str, messages: Iterable[Message], read: Callable[[Message, Question], _Reply]
    ) -> Iterator[tuple[str, _Reply]]:
        """Yield each site's answer that passes; whatever one site sends, the others go on."""
        seen: set[str] = set()
        for message in messages:
            site = self._roster.name(message.metadata.src_node_id)
            if message.has_error():
                self._leave_out(site, number, phase, refusal(message.error))
                continue
            try:
                reply = read(message, Question(self._study, number, self._roster.members[site], seen))
                self._ledgers.note(site, reply.privacy)
            except Exception as problem:
                self._leave_out(site, number, phase, refusal_of(problem))
                continue
            seen.add(site)
            yield site, reply

    def _leave_out(self, site: str, number: int, phase: str, refused: tuple[str, str]) -> None:
        code, reason = refused
        self._log.emit(events.SiteLeftOut(site, number, phase, code, reason))

    def _check_quorum(self, count: int, phase: str, number: int = 0) -> None:
        self._attendance.check_quorum(count, least=self._study.min_sites, phase=phase, number=number)


def _numpy(arrays: ArrayRecord) -> Arrays:
    return {name: array.numpy().astype(np.float32) for name, array in arrays.items()}

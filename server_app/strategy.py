"""The coordinator's half of Algorithm 1 (Li, Peng, Wang and Zhang 2025), on Flower's FedAvg."""

import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result

from fedfm.arrays import Arrays, layout, norm
from fedfm.config.compose import study_to_json
from fedfm.config.study import Study
from fedfm.records import write_arrays
from fedfm.schedule import closing_round, evaluation_rounds, is_evaluated_with_training
from fedfm.wire import EvaluateReply, Request
from server_app.aggregation import Aggregation, frozen_of
from server_app.answers import read_counts
from server_app.attendance import Attendance
from server_app.checkpoints import (
    EVALUATED,
    TRAINED,
    Checkpoint,
    keep_checkpoint,
    keep_statistics,
    take_checkpoint,
    take_statistics,
)
from server_app.choice import Choice
from server_app.conduct import Conduct
from server_app.contribution import Contribution
from server_app.evaluation import evaluate, positive_class
from server_app.halves import training_halves
from server_app.hearing import Hearing
from server_app.ledgers import Ledgers
from server_app.memory import Memory
from server_app.pace import Pace
from server_app.reasons.explaining import Explaining
from server_app.reasons.reference_audit import Loaded
from server_app.registry import bind
from server_app.report import evaluated, events
from server_app.report.event_log import EventLog
from server_app.requests import requests, training_requests
from server_app.roster import Roster
from server_app.rounds import exchange
from server_app.selection import SELECTIONS, Draw
from server_app.signals import Signals
from server_app.statistics import pool_statistics
from server_app.tolerances import judge, stop_if_asked
from server_app.updates import Updates


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
        final_round: Whose model is the result, after ``start``.

    Raises:
        ConfigError: A rule of the study does not exist, or its parameters do not fit.
    """

    def __init__(
        self,
        study: Study,
        *,
        run: str,
        folder: Path,
        log: EventLog,
        ledgers: Ledgers,
        frozen: Arrays | None = None,
    ) -> None:
        super().__init__(
            min_train_nodes=study.min_sites, min_evaluate_nodes=study.min_sites, min_available_nodes=study.min_sites
        )
        self._study, self._run, self._folder, self._log, self._ledgers = study, run, folder, log, ledgers
        self._study_json = study_to_json(study)
        self._select = bind(SELECTIONS, study.selection, group="selection")
        self._memory = Memory(
            Aggregation(study, frozen),
            Signals(positive_class(study.task)),
            Choice(study.fairness.final),
            Explaining(study, log),
        )
        self._attendance, self._contribution = Attendance(study.min_sites), Contribution(study, log)
        self._conduct, self._pace = Conduct(study.quarantine_after), Pace(study)
        log.listen(self._attendance.hear)
        log.listen(self._conduct.hear)
        self._done: Checkpoint | None = None
        self._deadline = 60 * study.round_minutes
        self._parameters: Arrays = {}
        self.statistics: Arrays = {}
        self.final_round = 0
        self._roster = Roster(study, run=run, events=log, ledgers=ledgers)
        self._hearing = Hearing(study, self._roster, log, self._pace)

    @property
    def frozen(self) -> Arrays:
        """What the sites load beside the parameters, as they are now; empty where they keep what is built."""
        return self._memory.aggregation.frozen

    def resume(self, checkpoint: Checkpoint, happened: Iterable[events.Event]) -> None:
        """Let ``start`` go on after a checkpoint, as if the run had never been interrupted.

        Args:
            checkpoint: Of this run.
            happened: The run's events until then.

        Raises:
            EngineError: Another release wrote it.
        """
        self._memory.take(checkpoint.beside, self._folder)
        self._done, self.statistics = checkpoint, take_statistics(self._folder)
        for event in happened:
            self._attendance.hear(event)
            self._conduct.hear(event)
            self._roster.hear(event)

    def start(self, grid: Grid, initial_arrays: ArrayRecord) -> Result:  # type: ignore[override]
        """Run the study; its rounds and deadlines are the study's, so Flower's arguments for them are not taken.

        Returns:
            Flower's result; ``arrays`` are the final global parameters.

        Raises:
            EngineError: Fewer sites than ``min_sites`` could be averaged.
        """
        # Algorithm 1, line 3: the global model, as study and seed give it
        self._roster.gather(grid, layout(_numpy(initial_arrays)))
        self._attendance.check_quorum(len(self._roster.members), "start")
        done = self._done or self._begin(grid, initial_arrays)
        arrays, self._parameters = write_arrays(done.parameters), done.parameters
        self._keep(done.round, done.phase)
        # Algorithm 1, line 4
        for number in range(done.round + (done.phase == EVALUATED), self._study.rounds + 1):
            self._roster.poll(grid, round_number=number)
            self._roster.quarantine(self._conduct.due(number))
            if (number, TRAINED) != (done.round, done.phase):
                arrays = self._train(number, arrays, grid)
                self._keep(number, TRAINED)
            self._memory.explaining.stop_if_asked(number)
            if number in evaluation_rounds(self._study) and not is_evaluated_with_training(self._study, number):
                self._evaluate(number, arrays, grid)
                self._keep(number, EVALUATED)
        arrays = self._finish(arrays, grid)
        # Algorithm 1, line 15
        return Result(arrays=arrays)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask the selected sites to train from ``arrays``; ``config`` is not used, the study says all."""
        self._parameters = _numpy(arrays)
        # Algorithm 1, line 5
        known = self._attendance.candidates(server_round, self._roster.members.values(), self._memory.signals.losses)
        draw = Draw(server_round, self._study.seed, self._study.min_sites, known)
        sites = self._select(tuple(self._roster.members), draw)
        size = sum(array.nbytes for sent in (self._parameters, self.frozen) for array in sent.values())
        self._deadline = self._pace.deadline(sites, "training", server_round)
        self._log.emit(events.RoundStarted(server_round, sites, size, self._deadline))
        # Algorithm 1, line 6
        is_with_evaluation = is_evaluated_with_training(self._study, server_round - 1)
        return training_requests(self._request(server_round), sites, self._roster, with_evaluation=is_with_evaluation)

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
            counts: dict[str, EvaluateReply] = {}
            hear = partial(self._hearing.hear, server_round - 1, "evaluation", read=read_counts, heard=counts)
            trained = training_halves(replies, hear)
            accepted = self._hearing.updates(server_round, trained, like=self._parameters, to=updates)
            if is_evaluated_with_training(self._study, server_round - 1):
                self._judge(server_round - 1, counts, start)
            self._attendance.check_quorum(len(accepted), "training", server_round)
            received = Loaded(self._parameters, self.frozen)
            found = self._memory.aggregation.aggregate(self._parameters, updates, accepted, self._memory.signals)
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
            self._memory.explaining.measure(server_round, received, made, updates, self.statistics)
        return write_arrays(self._parameters), None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every site, selected or not, to count the global model's answers on its test patients."""
        self._parameters = _numpy(arrays)
        return requests(self._request(server_round), list(self._roster.members), self._roster, MessageType.EVALUATE)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Add up the sites' counts and tell what they say; figures go to the events, not to Flower."""
        start = time.monotonic()
        self._judge(server_round, dict(self._hearing.passing(server_round, "evaluation", replies, read_counts)), start)
        return None

    def _judge(self, server_round: int, accepted: dict[str, EvaluateReply], start: float) -> None:
        if not accepted:
            return
        self._memory.signals.hear(accepted.values())
        judged = evaluate(list(accepted.values()), positive=positive_class(self._study.task))
        seconds, terms = time.monotonic() - start, self._study.explainability.vocabulary
        for event in evaluated.told(server_round, judged, accepted, seconds=seconds, vocabulary=terms):
            self._log.emit(event)
        self._memory.choice.note(server_round, judged, self._memory.signals)
        beyond = judge(self._study.fairness, judged, number=server_round)
        for excess in beyond:
            self._log.emit(excess)
        stop_if_asked(beyond)

    def _train(self, number: int, arrays: ArrayRecord, grid: Grid) -> ArrayRecord:
        messages = self.configure_train(number, arrays, ConfigRecord(), grid)
        combined, _ = self.aggregate_train(number, exchange(grid, messages, deadline_seconds=self._deadline))
        return combined or arrays

    def _evaluate(self, number: int, arrays: ArrayRecord, grid: Grid) -> None:
        # Algorithm 1, line 13
        messages = self.configure_evaluate(number, arrays, ConfigRecord(), grid)
        deadline = self._pace.deadline(self._roster.members, "evaluation", number)
        self.aggregate_evaluate(number, exchange(grid, messages, deadline_seconds=deadline))

    def _begin(self, grid: Grid, arrays: ArrayRecord) -> Checkpoint:
        parameters = _numpy(arrays)
        if self._study.standardize.method == "global":
            self.statistics = pool_statistics(
                grid,
                self._roster,
                study=self._study,
                run=self._run,
                like=parameters,
                log=self._log,
                check_quorum=partial(self._attendance.check_quorum, phase="statistics"),
            )
            keep_statistics(self._folder, self.statistics)
        return Checkpoint(0, EVALUATED, parameters)

    def _keep(self, number: int, phase: str) -> None:
        """Keep what the next step needs; on disk before it is taken, so that what sites are asked stays the same."""
        now = Checkpoint(number, phase, self._parameters, self._memory.kept(), events=self._log.size())
        keep_checkpoint(self._folder, now, others=self._memory.choice.rounds)

    def _finish(self, arrays: ArrayRecord, grid: Grid) -> ArrayRecord:
        """Return the final model: the last, or the one that served the audit patients best, evaluated once more."""
        number = self._study.rounds
        if self._study.fairness.final == "best":
            chosen = self._memory.choice.choose(last=number, marked=self._memory.explaining.marked)
            self._log.emit(chosen)
            number = chosen.round
            kept = take_checkpoint(self._folder, round_number=number)
            self._memory.aggregation.frozen = frozen_of(kept.beside)
            arrays = write_arrays(kept.parameters)
            self._evaluate(closing_round(self._study), arrays, grid)
        self.final_round = number
        return arrays

    def _request(self, number: int) -> Request:
        return Request(
            run=self._run,
            study=self._study_json,
            round=number,
            layout=layout(self._parameters),
            parameters=self._parameters,
            frozen=self.frozen,
            statistics=self.statistics,
        )


def _numpy(arrays: ArrayRecord) -> Arrays:
    return {name: array.numpy().astype(np.float32) for name, array in arrays.items()}

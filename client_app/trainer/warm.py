"""The trainer: one hospital's warm model and data, and the gate every request passes."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from client_app import releases, rounds, statistics
from client_app.approvals import Approvals
from client_app.asked import Round
from client_app.audit_log import log_of
from client_app.chain import locked
from client_app.cohorts import Prepared, prepare
from client_app.ledger import ledger_of
from client_app.loss_weights import refuse_unknown
from client_app.site import accept, agreed_plan
from client_app.trainer import outgoing
from client_app.trainer.answered import EVALUATE, TRAIN, once, question_of
from client_app.trainer.incoming import check_fields
from fedfm.config.compose import study_from_json, study_to_json
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.schedule import closing_round
from fedfm.wire import Description, EvaluateReply, Request, SummariseReply, TrainReply

logger = logging.getLogger(__name__)

Reply = TypeVar("Reply", Description, SummariseReply, TrainReply, EvaluateReply)


class Trainer:
    """Answers one request at a time, and trusts nothing of what it is asked.

    The study is read and checked anew in every request, against the schema, the site's policy, what its people
    approved, and its ledger; every answer against what was asked. Model, data and cached states stay loaded while the
    study stays the same.

    Args:
        site: The hospital.
        clock: Seconds, of which only differences count; limits how long the answer to one request may train.
    """

    def __init__(self, site: Site, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.site = site
        self.ledger = ledger_of(site)
        self.log = log_of(site)
        self.approvals = Approvals(site, self.log)
        self._clock = clock
        self._lock = threading.Lock()
        self._turn = Path(site.state) / f"trainer-{site.id}.lock"
        self._warm: tuple[str, Prepared] | None = None

    def describe(self, request: Request) -> Description:
        """Answer who this site is and that it can take part; afterwards all is loaded.

        Raises:
            FedFMError: The site refuses or cannot take part; nothing was spent.
        """
        return self._answer(request, "describe", rounds.describe, allowed=_any_round)

    def summarise(self, request: Request) -> SummariseReply:
        """Answer with sums over training patients, before round 1.

        Raises:
            FedFMError: The site refuses; what was charged before stays charged.
        """
        return self._answer(request, "summarise", statistics.summarise, allowed=_any_round)

    def train(self, request: Request) -> TrainReply:
        """Answer with the update of one round; asked the same again, with the same one, which costs nothing.

        Raises:
            FedFMError: The site refuses; what was charged before stays charged.
        """
        return self._answer(
            request,
            TRAIN.name,
            once(TRAIN, lambda asked: rounds.train(statistics.standardized(asked))),
            allowed=_training_rounds,
        )

    def evaluate(self, request: Request) -> EvaluateReply:
        """Answer with sums over test and audit patients; asked the same again, with the same ones, which cost nothing.

        Raises:
            FedFMError: The site refuses; what was charged before stays charged.
        """
        return self._answer(
            request,
            EVALUATE.name,
            once(EVALUATE, lambda asked: releases.evaluate(statistics.standardized(asked))),
            allowed=_evaluation_rounds,
        )

    def _answer(
        self, request: Request, name: str, how: Callable[[Round], Reply], *, allowed: Callable[[Study], range]
    ) -> Reply:
        with self._lock, locked(self._turn, alone=True):  # a twin of this process must not use the same charge
            deadline = self._clock() + 60 * self.site.policy.max_minutes_per_round
            study = study_from_json(request.study)
            check_fields(request, rounds=allowed(study))
            refuse_unknown(study)
            accept(self.site, study)
            planned = agreed_plan(self.site, study)
            self.approvals.check(study)  # last of the policy: nobody need look at what it refuses anyway
            self.ledger.check_not_older(request.ledger_entries, request.ledger_seal)
            prepared, question = self._prepared(study), question_of(request, study, self.site, name)
            if self.ledger.was_begun(question):
                prepared = _in_half(prepared, "the trainer was killed the last time that it was asked this")
            asked = Round(self.site, study, planned, self.ledger, prepared, request, self._clock, deadline, question)
            try:
                reply = _within_memory(how, asked)
                outgoing.check(reply, asked)
            except Exception:
                self.ledger.answered(question)  # by a refusal: it, too, may tell something
                raise
            self.ledger.answered(question)
            return reply

    def _prepared(self, study: Study) -> Prepared:
        key = study_to_json(study)
        if self._warm is None or self._warm[0] != key:
            self._warm = None  # two models at once may not fit
            self._warm = (key, prepare(self.site, study))
        return self._warm[1]


def _within_memory(how: Callable[[Round], Reply], asked: Round) -> Reply:
    """Return the answer; where memory does not suffice, once more with micro-batches of half the size.

    Noise, sample and charge do not depend on the size, and nothing of the first attempt leaves.
    """
    try:
        return how(asked)
    except (MemoryError, torch.OutOfMemoryError) as error:
        if asked.prepared.micro_batch == 1:
            raise
        halved = replace(asked, prepared=_in_half(asked.prepared, f"out of memory ({type(error).__name__})"))
    return how(halved)


def _in_half(prepared: Prepared, why: str) -> Prepared:
    size = max(1, prepared.micro_batch // 2)
    logger.warning("%s; micro-batches of %d instead of %d", why, size, prepared.micro_batch)
    return replace(prepared, micro_batch=size)


def _any_round(study: Study) -> range:
    """Before the first, or later: who joins late describes itself then."""
    return range(study.rounds + 1)


def _training_rounds(study: Study) -> range:
    return range(1, study.rounds + 1)


def _evaluation_rounds(study: Study) -> range:
    return range(1, closing_round(study) + 1)

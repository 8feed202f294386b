"""The trainer: one hospital's warm model and data, and the gate every request passes."""

import re
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from client_app import releases, rounds, statistics
from client_app.approvals import Approvals
from client_app.asked import Round
from client_app.cohorts import Prepared, prepare
from client_app.ledger import ledger_of
from client_app.site import accept, agreed_plan
from fedfm.config.compose import study_from_json, study_to_json
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.errors import WireError
from fedfm.schedule import closing_round
from fedfm.wire import Description, EvaluateReply, Request, SummariseReply, TrainReply

_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")

Reply = TypeVar("Reply", Description, SummariseReply, TrainReply, EvaluateReply)


class Trainer:
    """Answers one request at a time, and trusts nothing of what it is asked.

    The study is read and checked anew in every request, against the schema, the site's policy, what its people
    approved, and its ledger. Model, data and cached states stay loaded while the study stays the same.

    Args:
        site: The hospital.
        clock: Seconds, of which only differences count; limits how long a round of training takes.
    """

    def __init__(self, site: Site, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.site = site
        self.ledger = ledger_of(site)
        self.approvals = Approvals(site)
        self._clock = clock
        self._lock = threading.Lock()
        self._warm: tuple[str, Prepared] | None = None

    def describe(self, request: Request) -> Description:
        """Answer who this site is and that it can take part; afterwards all is loaded.

        Raises:
            FedFMError: The site refuses or cannot take part; nothing was spent.
        """
        return self._answer(request, rounds.describe, allowed=_any_round)

    def summarise(self, request: Request) -> SummariseReply:
        """Answer with sums over training patients, before round 1.

        Raises:
            FedFMError: The site refuses; what was charged before stays charged.
        """
        return self._answer(request, statistics.summarise, allowed=_any_round)

    def train(self, request: Request) -> TrainReply:
        """Answer with the update of one round.

        Raises:
            FedFMError: The site refuses; what was charged before stays charged.
        """
        return self._answer(
            request, lambda asked: rounds.train(statistics.standardized(asked)), allowed=_training_rounds
        )

    def evaluate(self, request: Request) -> EvaluateReply:
        """Answer with sums over test and audit patients.

        Raises:
            FedFMError: The site refuses; what was charged before stays charged.
        """
        return self._answer(
            request, lambda asked: releases.evaluate(statistics.standardized(asked)), allowed=_evaluation_rounds
        )

    def _answer(self, request: Request, how: Callable[[Round], Reply], *, allowed: Callable[[Study], range]) -> Reply:
        with self._lock:
            study = study_from_json(request.study)
            _check_names(request, allowed(study))
            accept(self.site, study)
            planned = agreed_plan(self.site, study)
            self.approvals.check(study)  # last of the policy: nobody need look at what it refuses anyway
            self.ledger.check_not_older(request.ledger_entries, request.ledger_seal)
            return how(Round(self.site, study, planned, self.ledger, self._prepared(study), request, self._clock))

    def _prepared(self, study: Study) -> Prepared:
        key = study_to_json(study)
        if self._warm is None or self._warm[0] != key:
            self._warm = None  # two models at once may not fit
            self._warm = (key, prepare(self.site, study))
        return self._warm[1]


def _any_round(study: Study) -> range:
    """Before the first, or later: who joins late describes itself then."""
    return range(study.rounds + 1)


def _training_rounds(study: Study) -> range:
    return range(1, study.rounds + 1)


def _evaluation_rounds(study: Study) -> range:
    return range(1, closing_round(study) + 1)


def _check_names(request: Request, allowed: range) -> None:
    """Refuse a run's name or a round that the ledger and the audit log should not have to keep."""
    if not _RUN_NAME.fullmatch(request.run) or request.round not in allowed:
        raise WireError(
            "SITE-E135",
            "a run or a round that cannot be",
            where="run and round of the request",
            allowed=f"a run of 1 to 80 of A-Z a-z 0-9 . _ -, and a round from {allowed[0]} to {allowed[-1]}",
            fix="the coordinator must mend it",
        )

"""One request that the site's policy has accepted: what is asked, what it may cost, and what answers it."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from client_app.cohorts import Prepared
from client_app.data.split import division
from client_app.ledger import Charge, Ledger, Limits, Split
from fedfm.config.compose import study_to_json
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.errors import PolicyError
from fedfm.plan import Plan
from fedfm.privacy import Release
from fedfm.wire import PrivacySpent, Request


@dataclass(frozen=True)
class Round:
    """One request that the site's policy has accepted, with all that is needed to answer it.

    Attributes:
        site: This hospital.
        study: The study, read anew from the request.
        plan: Noise of every release.
        ledger: Where epsilon is charged.
        prepared: Model and data, warm.
        request: What was asked.
        clock: Seconds, of which only differences count.
        deadline: What the clock says when the minutes of this request are over, whatever it trains.
        question: Fingerprint of what is asked (``client_app.trainer.answered``); empty where nobody asked, as in tests.
    """

    site: Site
    study: Study
    plan: Plan
    ledger: Ledger
    prepared: Prepared
    request: Request
    clock: Callable[[], float] = time.monotonic
    deadline: float = math.inf
    question: str = ""

    @property
    def private(self) -> bool:
        """Whether the study has a privacy mechanism."""
        return self.study.privacy.mechanism != "none"

    def check_time(self) -> None:
        """Return while the minutes that the policy gives to one request last.

        Raises:
            PolicyError: They are over; what was charged stays charged.
        """
        if self.clock() > self.deadline:
            raise PolicyError(
                "SITE-E223",
                "a round of training took longer than the site allows, and was ended",
                where=f"policy of {self.site.id}",
                allowed=f"max_minutes_per_round {self.site.policy.max_minutes_per_round:g}",
                fix="lower training.local_steps or training.sample_rate, leave out baseline=alone or personal=ditto, "
                "or let the hospital allow more",
            )

    def kept(self, what: str, suffix: str = ".json", *, of: Sequence[str] = ()) -> Path:
        """Return the file of what is made once, or kept over rounds: of this run, this study and this cohort.

        Args:
            what: What is kept.
            suffix: Of the file.
            of: What else of the site file it was made by.
        """
        study = study_to_json(self.study)  # as it was read: how the coordinator wrote it makes no other study
        return self._file(what, suffix, [study, str(self.site.declared_patients), *of])

    def kept_in_run(self, what: str) -> Path:
        """Return the file of what leaves once in a run, whichever study asks in it."""
        return self._file(what, ".json", [])

    def answer(self, kind: str) -> Path:
        """Return the file of the answer of this site, of several of one cohort, to a question of a kind: one word."""
        return self._file(f"answer-{kind}-{self.request.round:05d}", ".bin", [self.site.id])

    def _file(self, what: str, suffix: str, of: list[str]) -> Path:
        told = [self.request.run, self.site.cohort or self.site.id, *of]
        return Path(self.site.state) / f"{what}-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]}{suffix}"

    def charge(self, split: Split, purpose: str, release: Release) -> None:
        """Write a release to the ledger before it is computed; once for a question that was never answered.

        Raises:
            PrivacyBudgetExceeded: Nothing was written, and nothing may be computed.
        """
        wanted, total = self.study.privacy, self.site.policy.max_epsilon
        of_run = {"train": wanted.epsilon, "test": wanted.evaluation_epsilon, "audit": wanted.audit_epsilon}[split]
        unprotected = release.noise_multiplier == 0  # only where the policy allows it: client_app.site.accept
        limits = Limits(*(float("inf"),) * 2 if unprotected else (of_run, total), delta=self.plan.delta)
        charge = Charge(
            run=self.request.run,
            study=self.study.name,
            round=self.request.round,
            split=split,
            purpose=purpose,
            release=release,
            unit=wanted.unit,
            division=division(self.site.data.split),
            site=self.site.id,
            question=self.question,
        )
        self.ledger.charge(charge, limits)

    def spent(self) -> PrivacySpent:
        """Return what one patient of each split has spent at this site, over all runs and studies."""
        at, run = self.plan.delta, self.request.run
        entries, seal = self.ledger.head()
        return PrivacySpent(
            unit=self.study.privacy.unit if self.private else "none",
            delta=at,
            train=self.ledger.epsilon("train", at),
            audit=self.ledger.epsilon("audit", at),
            test=self.ledger.epsilon("test", at),
            run=self.ledger.epsilon("train", at, run=run),
            planned=self.plan.planned,
            noise_multiplier=self.plan.training.noise_multiplier,
            entries=entries,
            seal=seal,
        )

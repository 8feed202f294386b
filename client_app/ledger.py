"""Epsilon spent at this site, over rounds, restarts, runs and studies.

One file per cohort of patients. A charge is on disk before anything is computed, so that a
crash can only count too much. The splits train, audit and test share no patient: each has
its own sum, and no patient spends more than the largest.
"""

import datetime
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from client_app import chain
from fedfm import privacy
from fedfm.errors import PrivacyBudgetExceeded
from fedfm.privacy import Release

Split = Literal["train", "audit", "test"]
SPLITS: tuple[Split, ...] = ("train", "audit", "test")


@dataclass(frozen=True)
class Charge:
    """One entry: what was about to be released about the patients of one split.

    Attributes:
        run: Name of the run.
        study: Name of the study.
        round: Round of the run.
        split: Whose patients.
        purpose: For example ``"training"``.
        release: The mechanism; ``noise_multiplier`` 0 stands for a release without protection.
    """

    run: str
    study: str
    round: int
    split: Split
    purpose: str
    release: Release


@dataclass(frozen=True)
class Limits:
    """What a charge may not pass: epsilon of the run, and of all runs together, at ``delta``."""

    run: float
    total: float
    delta: float


class Ledger:
    """The ledger of one cohort."""

    def __init__(self, folder: Path, cohort: str) -> None:
        self.path = folder / f"ledger-{cohort}.jsonl"

    def charges(self) -> list[Charge]:
        """Return all charges, oldest first.

        Raises:
            DataError: The file was edited or damaged.
        """
        return [_charge(entry) for entry in chain.read(self.path)]

    def head(self) -> tuple[int, str]:
        """Return the number of entries, and the seal of the last; empty where there is none."""
        entries = chain.read(self.path)
        return len(entries), str(entries[-1]["seal"]) if entries else ""

    def epsilon(self, split: Split, delta: float, *, run: str | None = None) -> float:
        """Return epsilon of one patient of ``split``: of all runs, or of one. ``inf`` after an unprotected release."""
        return _epsilon(
            [charge for charge in self.charges() if charge.split == split and run in (None, charge.run)], delta
        )

    def charge(self, charge: Charge, limits: Limits) -> None:
        """Write the charge down, or refuse it.

        Guarantees:
            On return the charge is on disk. After a refusal nothing was written. A repeated
            charge counts again: whoever asks twice gets two releases.

        Raises:
            PrivacyBudgetExceeded: The run or the total would pass its limit.
            DataError: The file is damaged or cannot be written.
        """

        def within_limits(entries: list[dict[str, Any]]) -> None:
            same_split = [past for past in map(_charge, entries) if past.split == charge.split]
            of_run = [past for past in same_split if past.run == charge.run]
            _refuse_beyond(limits.run, [*of_run, charge], limits.delta, name="run")
            _refuse_beyond(limits.total, [*same_split, charge], limits.delta, name="total")

        chain.append(
            self.path,
            {
                "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "run": charge.run,
                "study": charge.study,
                "round": charge.round,
                "split": charge.split,
                "purpose": charge.purpose,
                "noise_multiplier": charge.release.noise_multiplier,
                "sample_rate": charge.release.sample_rate,
                "steps": charge.release.steps,
            },
            check=within_limits,
        )


def _refuse_beyond(limit: float, charges: list[Charge], delta: float, *, name: str) -> None:
    after, last = _epsilon(charges, delta), charges[-1]
    if after > limit:
        raise PrivacyBudgetExceeded(
            "SITE-E104",
            f"the privacy budget of the {name} does not allow this release",
            where=f"{last.purpose}, {last.split} patients, round {last.round}",
            found=f"epsilon {after:.3f} after it",
            allowed=f"{limit:g} at delta {delta:.3g}",
            fix="plan fewer rounds or releases, or let the data-protection officer raise policy.max_epsilon",
        )


def _epsilon(charges: list[Charge], delta: float) -> float:
    if any(charge.release.noise_multiplier <= 0 for charge in charges):
        return math.inf
    return privacy.epsilon([charge.release for charge in charges], delta)


def _charge(entry: dict[str, Any]) -> Charge:
    return Charge(
        run=entry["run"],
        study=entry["study"],
        round=entry["round"],
        split=entry["split"],
        purpose=entry["purpose"],
        release=Release(entry["noise_multiplier"], entry["sample_rate"], entry["steps"]),
    )

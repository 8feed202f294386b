"""Epsilon spent at this site, over rounds, restarts, runs and studies.

One file per cohort of patients. A charge is on disk before anything is computed, so that a
crash can only count too much; what was charged for an answer that never left is used for the same question once more,
and for nothing else. The splits train, audit and test share no patient: each has
its own sum, and no patient spends more than the largest.
"""

import datetime
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from client_app.chain import Chain, Entry
from client_app.own_files import ledger_name
from fedfm import privacy
from fedfm.config.site import Site
from fedfm.errors import PolicyError, PrivacyBudgetExceeded
from fedfm.privacy import Release
from fedfm.wire import Head

Split = Literal["train", "audit", "test"]
SPLITS: tuple[Split, ...] = ("train", "audit", "test")

_Steps = dict[tuple[float, float], int]
"""Noise multiplier and sample rate to steps."""


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
        unit: Whose presence the release hides, ``"patient"`` or ``"record"``.
        division: Fingerprint of how patients are divided into splits; empty where it is not known.
        site: Id of the site that releases; several sites may share a cohort, but not in one run.
        question: Fingerprint of the request that this answers; empty where it is not known.
    """

    run: str
    study: str
    round: int
    split: Split
    purpose: str
    release: Release
    unit: str = "patient"
    division: str = ""
    site: str = ""
    question: str = ""


@dataclass(frozen=True)
class Limits:
    """What a charge may not pass: epsilon of the run, and of all runs together, at ``delta``."""

    run: float
    total: float
    delta: float


class Ledger:
    """The ledger of one cohort. Not for several threads at once; several processes may charge it."""

    def __init__(self, folder: Path, cohort: str) -> None:
        self._chain = Chain(folder / ledger_name(cohort))
        self._charges: list[Charge] = []
        self._entries = 0
        self._unanswered: set[Charge] = set()
        self._spent: dict[tuple[Split, str | None], _Steps] = defaultdict(lambda: defaultdict(int))
        self._units: set[str] = set()
        self._divisions: set[str] = set()
        self._sites: dict[str, set[str]] = defaultdict(set)

    @property
    def path(self) -> Path:
        """The file."""
        return self._chain.path

    def charges(self) -> list[Charge]:
        """Return all charges, oldest first.

        Raises:
            DataError: The file was edited or damaged.
        """
        self._take(self._chain.read())
        return list(self._charges)

    def head(self) -> Head:
        """Return the number of entries, and the seal of the last; empty where there is none."""
        return self._chain.head()

    def check_not_older(self, entries: int, seal: str) -> None:
        """Refuse to go on with a ledger that is older than what the coordinator has heard of it.

        Args:
            entries: Length that this site once told; 0 for none.
            seal: Seal of the last of these entries.

        Raises:
            PolicyError: This ledger is shorter, or another: a copy from before was put in its place, or it is lost.
        """
        if not self._chain.holds(Head(entries, seal)):
            raise PolicyError(
                "SITE-E116",
                "the privacy ledger is older than the one that the coordinator has heard of, or another one",
                where="state of site.yaml",
                fix="put back the newest copy of the ledger; never start from an older one, or from none",
            )

    def epsilon(self, split: Split, delta: float, *, run: str | None = None) -> float:
        """Return epsilon of one patient of ``split``: of all runs, or of one. ``inf`` after an unprotected release."""
        self._take(self._chain.read())
        return privacy.epsilon(self._history(split, run), delta)

    def charge(self, charge: Charge, limits: Limits) -> None:
        """Write the charge down, or refuse it.

        Guarantees:
            On return the charge is on disk. After a refusal nothing was written. An equal charge for a question that
            was never answered is this one: the process that wrote it was killed, and nothing has left (``answered``).
            Any other repeated charge counts again: whoever asks twice gets two releases.

        Raises:
            PrivacyBudgetExceeded: The run or the total would pass its limit.
            PolicyError: The ledger counts for another unit, or for patients that were divided otherwise, or these
                patients take part in the run under another name already.
            DataError: The file is damaged or cannot be written.
        """

        def within_limits(entries: list[Entry]) -> None:
            self._take(entries)
            if charge in self._unanswered:
                raise _AlreadyChargedError
            self._refuse_another_kind(charge)
            self._refuse_a_second_site(charge)
            for name, run, limit in (("run", charge.run, limits.run), ("total", None, limits.total)):
                after = [*self._history(charge.split, run), charge.release]
                if not privacy.is_within(after, limit, limits.delta):
                    raise _beyond(charge, after, limit, limits.delta, name=name)

        release = charge.release
        entry = {
            "time": _now(),
            "run": charge.run,
            "study": charge.study,
            "round": charge.round,
            "split": charge.split,
            "purpose": charge.purpose,
            "noise_multiplier": release.noise_multiplier,
            "sample_rate": release.sample_rate,
            "steps": release.steps,
            "unit": charge.unit,
            "division": charge.division,
            "site": charge.site,
            "question": charge.question,
        }
        with suppress(_AlreadyChargedError):
            self._chain.append(entry, check=within_limits)

    def was_begun(self, question: str) -> bool:
        """Tell whether a question was charged and never answered: whoever computed it was killed."""
        self._take(self._chain.read())
        return any(charge.question == question for charge in self._unanswered)

    def answered(self, question: str) -> None:
        """Note, before it leaves, that a question is answered, be it by a refusal: its charges are used up.

        Raises:
            DataError: It cannot be written; nothing may leave.
        """
        if self.was_begun(question):
            self._chain.append({"time": _now(), "answered": question})

    def _refuse_another_kind(self, charge: Charge) -> None:
        """One sum is right for one unit and one division: who moves from one split to another spends in both."""
        if self._units - {charge.unit}:
            raise PolicyError(
                "SITE-E117",
                "the ledger counts for another unit of privacy",
                where="privacy.unit of the study",
                fix="ask for the unit that this cohort began with",
            )
        if len((self._divisions | {charge.division}) - {""}) > 1:
            raise PolicyError(
                "SITE-E117",
                "the ledger counts for patients that were divided into train, audit and test otherwise",
                where="data.split of site.yaml",
                fix="put data.split back as it was when this cohort was first used",
            )

    def _refuse_a_second_site(self, charge: Charge) -> None:
        """Two trainers of one cohort in one run would count its patients twice, and spend its budget twice as fast."""
        if charge.site and self._sites[charge.run] - {charge.site, ""}:
            raise PolicyError(
                "SITE-E248",
                "the patients of this cohort take part in this run already, under another site's name",
                where="cohort of site.yaml",
                found=f"site {charge.site}",
                fix="let the study name one of these sites; see docs/how-to/several-gpus.md",
            )

    def _take(self, entries: list[Entry]) -> None:
        """Add up what is new."""
        for entry in entries[self._entries :]:
            self._entries += 1
            if "answered" in entry:
                self._unanswered = {one for one in self._unanswered if one.question != entry["answered"]}
                continue
            charge = _charge(entry)
            if charge.question:
                self._unanswered.add(charge)
            self._charges.append(charge)
            self._units.add(charge.unit)
            self._divisions.add(charge.division)
            self._sites[charge.run].add(charge.site)
            kind = charge.release.noise_multiplier, charge.release.sample_rate
            for run in (None, charge.run):
                self._spent[charge.split, run][kind] += charge.release.steps

    def _history(self, split: Split, run: str | None) -> list[Release]:
        return [Release(noise, rate, steps) for (noise, rate), steps in self._spent[split, run].items()]


class _AlreadyChargedError(Exception):
    """Ends an append before anything is written."""


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def ledger_of(site: Site) -> Ledger:
    """Return the ledger of the site's cohort."""
    return Ledger(Path(site.state), site.cohort or site.id)


def _beyond(charge: Charge, after: list[Release], limit: float, delta: float, *, name: str) -> PrivacyBudgetExceeded:
    return PrivacyBudgetExceeded(
        "SITE-E104",
        f"the privacy budget of the {name} does not allow this release",
        where=f"{charge.purpose}, {charge.split} patients, round {charge.round}",
        found=f"{_told(after, limit, delta)} after it",
        allowed=f"{limit:g} at delta {delta:.3g}",
        fix="plan fewer rounds or releases, or let the data-protection officer raise policy.max_epsilon",
    )


def _told(history: list[Release], limit: float, delta: float) -> str:
    if any(release.noise_multiplier <= 0 for release in history):
        return "no bound"
    return f"epsilon {privacy.epsilon_near(limit, history, delta):.3f}"


def _charge(entry: Entry) -> Charge:
    return Charge(
        run=entry["run"],
        study=entry["study"],
        round=entry["round"],
        split=entry["split"],
        purpose=entry["purpose"],
        release=Release(entry["noise_multiplier"], entry["sample_rate"], entry["steps"]),
        unit=entry.get("unit", "patient"),  # entries of a release that did not note it
        division=entry.get("division", ""),
        site=entry.get("site", ""),
        question=entry.get("question", ""),
    )

"""Which studies the people of this hospital have approved, and which wait for them.

An approval is of one resolved study: every setting of it, as the trainer reads it. A study that differs in one setting
is another study, and waits. Approvals and withdrawals are entries of one sealed file, ``approvals.jsonl``; none is
ever taken out. Each is noted in the audit log as well: a file that does not end, for a study, with what the log has
as the newest decision on it is an older or another one. What was asked for without approval waits
(``client_app.pending``) for the hospital to look at.
"""

import datetime
import hashlib
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from client_app.audit_log import AuditLog, agrees, disagreeing, log_of
from client_app.chain import Chain, Entry, locked
from client_app.installed import code_hash
from client_app.pending import Pending, Waiting
from fedfm.config.compose import study_from_json, study_to_json
from fedfm.config.policy import policy_hash
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.errors import ConfigErrors, DataError, PolicyError
from fedfm.wire import WIRE_VERSION, Head

FILE, LOCK = "approvals.jsonl", "approvals.lock"

NEW, WITHDRAWN, DISAGREES = "SITE-E220", "SITE-E221", "SITE-E228"

_SHORTEST_PREFIX = 6
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Decision:
    """One entry: what a person decided about a study.

    Attributes:
        time: When, in UTC.
        action: ``approve`` or ``withdraw``.
        by: Who, as typed.
        study: SHA-256 of the resolved study.
        name: The study's own name.
        resolved: The study, to be compared with later ones.
        wire_version: Version of the messages; a site answers under the one that was approved.
        code: SHA-256 of the code that was installed.
        policy: SHA-256 of the policy that was in force.
        fedfm: Release that was installed.
    """

    time: str
    action: Literal["approve", "withdraw"]
    by: str
    study: str
    name: str
    resolved: str
    wire_version: int
    code: str
    policy: str
    fedfm: str = ""


def study_hash(study: Study) -> str:
    """Return the SHA-256 of a study as the trainer reads it, however the coordinator wrote it."""
    return hashlib.sha256(study_to_json(study).encode()).hexdigest()


class Approvals:
    """The approvals of one site. Not for several threads at once; several processes may add to the file.

    Args:
        site: Its state folder holds the file, its policy says whether approval is needed.
        log: The site's audit log, where somebody has it open already.
    """

    def __init__(self, site: Site, log: AuditLog | None = None) -> None:
        self._site = site
        self._log = log or log_of(site)
        folder = Path(site.state)
        self._chain, self._lock, self._pending = Chain(folder / FILE), folder / LOCK, Pending(folder)

    def decisions(self) -> list[Decision]:
        """Return all decisions, oldest first.

        Raises:
            DataError: The file was edited or damaged.
        """
        return [_decision(entry) for entry in self._chain.read()]

    def standing(self) -> dict[str, Decision]:
        """Return the last decision about each study, by its hash."""
        return {decision.study: decision for decision in self.decisions()}

    def disagreeing(self) -> tuple[str, ...]:
        """Return the hashes of studies on which this file and the audit log do not say the same.

        Raises:
            DataError: One of them was edited or damaged.
        """
        with locked(self._lock, alone=False):
            return disagreeing(self._log.decisions(), self._last_entries())

    def log_head(self) -> Head:
        """Return the head of the audit log, which shows later that what is decided now was decided."""
        return self._log.head()

    def check(self, study: Study) -> None:
        """Return if the policy asks for no approval, or the study has it.

        Raises:
            PolicyError: It has not; it is kept for the hospital to look at, or the error says why it is not. Nothing
                was computed or spent.
            DataError: The file is damaged, or the study cannot be kept.
        """
        refusal = self.refusal(study)
        if refusal is None:
            return
        lost = "" if refusal.code == WITHDRAWN else self._pending.keep(study, study_hash(study))
        raise self._not_kept(study, lost) if lost and refusal.code == NEW else refusal

    def refusal(self, study: Study) -> PolicyError | None:
        """Return why the study would be refused, and keep nothing; None where it would not.

        Raises:
            DataError: The file is damaged.
        """
        if self._site.policy.approval == "none":
            return None
        digest = study_hash(study)
        with locked(self._lock, alone=False):
            noted, entry = self._log.decisions().get(digest), self._last_entries().get(digest)
        if not agrees(noted, entry):
            what = "the approvals do not hold what the audit log has as the newest decision on this study"
            return self._refusal(DISAGREES, what, study, digest)
        last = None if entry is None else _decision(entry)
        if last is None:
            return self._refusal(NEW, "the hospital has not approved this study", study, digest)
        if last.action == "withdraw":
            return self._refusal(WITHDRAWN, "the hospital has withdrawn its approval of this study", study, digest)
        if last.wire_version != WIRE_VERSION:
            what = f"approved under wire version {last.wire_version}, and this trainer speaks {WIRE_VERSION}"
            return self._refusal("SITE-E222", what, study, digest)
        return None

    def approve(self, study: Study, *, by: str, now: datetime.datetime) -> Decision:
        """Write the approval down, for the code and the wire version that are installed; return it."""
        decision = Decision(
            time=now.isoformat(timespec="seconds"),
            action="approve",
            by=_name(by),
            study=study_hash(study),
            name=study.name,
            resolved=study_to_json(study),
            wire_version=WIRE_VERSION,
            code=code_hash(),
            policy=policy_hash(self._site.policy),
            fedfm=version("fedfm"),
        )
        self._write(decision)
        self._pending.remove(decision.study)
        return decision

    def withdraw(self, prefix: str, *, by: str, now: datetime.datetime) -> Decision:
        """Write down that an approval is withdrawn; return it. It holds from the trainer's next request on.

        Raises:
            DataError: No approved study, or more than one, has a hash that begins so.
        """
        approved = {digest: last for digest, last in self.standing().items() if last.action == "approve"}
        last = approved[self._one_of(approved, prefix)]
        decision = replace(last, time=now.isoformat(timespec="seconds"), action="withdraw", by=_name(by))
        self._write(decision)
        return decision

    def waiting(self) -> Waiting:
        """Return what waits for approval."""
        return self._pending.waiting()

    def find(self, prefix: str) -> Study:
        """Return the study, pending or once decided about, whose hash begins so.

        Raises:
            DataError: None does, or several do, or it cannot be read.
        """
        found, decided = self.waiting(), self.standing()
        digest = self._one_of({*found.studies, *found.unreadable, *decided}, prefix)
        if digest in found.studies:
            return found.studies[digest]
        if digest in decided:
            return _study_of(decided[digest])
        raise found.unreadable[digest]

    def _last_entries(self) -> dict[str, Entry]:
        return {str(entry["study"]): entry for entry in self._chain.read()}

    def _write(self, decision: Decision) -> None:
        """Write a decision into both files; who is ended between them leaves a study that is refused until decided."""
        with locked(self._lock, alone=True):
            self._log.head()  # a damaged log is found before anything is written
            entry = self._chain.append(asdict(decision))
            self._log.decided(decision.action, entry, study=decision.study)

    def _one_of(self, digests: Collection[str], prefix: str) -> str:
        usable = len(prefix) >= _SHORTEST_PREFIX and re.fullmatch(r"[0-9a-f]+", prefix)
        matching = [digest for digest in digests if digest.startswith(prefix)] if usable else []
        if len(matching) != 1:
            raise DataError(
                "SITE-E224",
                "no study, or more than one, has a hash that begins so",
                where=self._site.id,
                found=prefix[:80],
                allowed=f"{_SHORTEST_PREFIX} to 64 digits of the hash, enough for one study",
                fix="see the hashes with: fedfm-site approve SITE_FILE",
            )
        return matching[0]

    def _refusal(self, code: str, what: str, study: Study, digest: str) -> PolicyError:
        first = f"puts back the newest {FILE}, or " if code == DISAGREES else ""
        return PolicyError(
            code,
            what,
            where=f"approvals of {self._site.id}",
            found=f"{study.name}, hash {digest[:12]}",
            fix=f"the hospital {first}looks at it and decides: fedfm-site approve SITE_FILE {digest[:12]}",
        )

    def _not_kept(self, study: Study, why: str) -> PolicyError:
        return PolicyError(
            "SITE-E219",
            "the hospital has not approved this study, and it does not wait there either",
            where=f"approvals of {self._site.id}",
            found=f"{study.name}, hash {study_hash(study)[:12]}: {why}",
            fix="the hospital decides about those that wait, or removes their files (state/pending); or send it "
            "config.resolved.json, for: fedfm-site approve SITE_FILE config.resolved.json",
        )


def _decision(entry: Entry) -> Decision:
    """Return the decision of an entry; one of an earlier release has no release in it."""
    return Decision(**{name: entry[name] for name in Decision.__annotations__ if name in entry})


def _study_of(decision: Decision) -> Study:
    try:
        return study_from_json(decision.resolved)
    except ConfigErrors as error:
        raise DataError(
            "SITE-E229",
            "a study that was decided about under another release cannot be read as a study of this one",
            where=FILE,
            found=f"{decision.name}, hash {decision.study[:12]} ({error.code})",
            fix="nothing needs to be done: no request of this release can be of it; a study of today waits by itself",
        ) from error


def _name(by: str) -> str:
    name = " ".join(by.split())
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise PolicyError(
            "SITE-E226",
            "who decides must be named",
            where="--by",
            allowed=f"1 to {_LONGEST_NAME} letters",
            fix="write the name of the person who decides, as it stands in your records",
        )
    return name

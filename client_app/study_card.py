"""What a study asks of this hospital, for a person to know before approving it. No patient's row is read."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from client_app.approvals import Approvals, Decision, study_hash
from client_app.installed import code_hash
from client_app.ledger import SPLITS, Charge, Split, ledger_of
from client_app.site import agreed_plan, refusals
from client_app.study_words import differing
from fedfm import privacy
from fedfm.config.compose import study_to_json
from fedfm.config.policy import policy_hash, task_hash
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.errors import PolicyError
from fedfm.plan import Plan, of_split, planned, rounds_of
from fedfm.wire import WIRE_VERSION


@dataclass(frozen=True)
class Leaving:
    """One kind of release.

    Attributes:
        release: Its field in the plan, for example ``last_evaluation``.
        split: Whose patients.
        rounds: The rounds that it is taken in or after; 0 stands for before the first.
        leaves: False where it only shapes what leaves, or what stays here.
        noise: Standard deviation, in units of what one patient can change: of a training in each step; 0 for none.
    """

    release: str
    split: str
    rounds: tuple[int, ...]
    leaves: bool
    noise: float


@dataclass(frozen=True)
class Spent:
    """Epsilon of one patient of a split; infinite after a release without noise.

    Attributes:
        split: Whose patients.
        run: Of this study, when every round runs.
        before: Of all that is in the ledger.
        after: Of both together.
        cap: Most that the policy allows.
    """

    split: Split
    run: float
    before: float
    after: float
    cap: float

    @property
    def left(self) -> float:
        """What later studies can spend; never below 0."""
        return max(0.0, self.cap - self.after)


@dataclass(frozen=True)
class Change:
    """A setting that differs from the last approved study, or from its default; None where one of them has none."""

    setting: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Card:
    """All of it.

    Attributes:
        site: The site's id.
        study: As the trainer reads it.
        hashes: ``study``, ``task``, ``code`` and ``policy`` to their SHA-256.
        wire_version: Version of the messages here.
        fedfm: Release that is installed here.
        delta: Chance of failure that epsilons are stated at; None where no plan can be made.
        leaving: Every kind of release; empty where no plan can be made.
        spent: Epsilon of each split; empty where no plan can be made.
        refusals: Why the policy refuses it; empty where it does not.
        warnings: Of what else a person should know before agreeing.
        last: The approval that it is compared with: of the study of this name, else the last one.
        changes: Setting by setting, what differs from that.
        differing: Setting by setting, what differs from the defaults; ``old`` is None where there is none.
    """

    site: str
    study: Study
    hashes: dict[str, str]
    wire_version: int
    fedfm: str
    delta: float | None
    leaving: tuple[Leaving, ...]
    spent: tuple[Spent, ...]
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]
    last: Decision | None
    changes: tuple[Change, ...]
    differing: tuple[Change, ...]


def card_of(site: Site, study: Study, approvals: Approvals) -> Card:
    """Judge the study as the trainer would, and return what a person must know of it.

    Raises:
        DataError: Ledger or approvals were edited or damaged.
    """
    made, refused = _judged(site, study)
    spent = () if made is None else tuple(spent_of(site, study, made, ledger_of(site).charges()))
    last, resolved = _last(approvals.decisions(), study), json.loads(study_to_json(study))
    return Card(
        site=site.id,
        study=study,
        hashes={
            "study": study_hash(study),
            "task": task_hash(study.task),
            "code": code_hash(),
            "policy": policy_hash(site.policy),
        },
        wire_version=WIRE_VERSION,
        fedfm=version("fedfm"),
        delta=None if made is None else made.delta,
        leaving=() if made is None else tuple(_leaving(study, made)),
        spent=spent,
        refusals=tuple(refused),
        warnings=tuple(_beyond(spent)),
        last=last,
        changes=() if last is None else tuple(changes(json.loads(last.resolved), resolved)),
        differing=tuple(Change(*found) for found in differing(study, resolved)),
    )


def spent_of(site: Site, study: Study, made: Plan, charges: Sequence[Charge]) -> Iterator[Spent]:
    """Yield what the study would spend of each split, beside what ``charges`` have spent; charges nothing."""
    for split in SPLITS:
        asked = of_split(study, made, split)
        before = [charge.release for charge in charges if charge.split == split]
        run, earlier, after = (privacy.epsilon(those, made.delta) for those in (asked, before, [*before, *asked]))
        yield Spent(split, run, earlier, after, site.policy.max_epsilon)


def as_json(card: Card) -> dict[str, Any]:
    """Return all of it for machines; None stands for an epsilon that is infinite."""
    told = asdict(card)
    told["spent"] = [
        {name: _finite(value) for name, value in asdict(one).items()} | {"left": one.left} for one in card.spent
    ]
    if card.last is not None:
        told["last"].pop("resolved")
    return told


def changes(old: Any, new: Any, *, path: str = "") -> list[Change]:  # noqa: ANN401 - what JSON holds
    """Return every setting that differs between two resolved studies; a list is one setting."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(name for name in new if name not in old)]
        inside = [changes(old.get(name), new.get(name), path=f"{path}.{name}" if path else str(name)) for name in names]
        return [change for found in inside for change in found]
    # by their text: 1 and 1.0 and True are equal in Python, and another study here
    return [] if json.dumps(old) == json.dumps(new) else [Change(path, old, new)]


def _judged(site: Site, study: Study) -> tuple[Plan | None, list[str]]:
    """Return the plan, where one can be made, and the refusals."""
    found = [_line(refusal) for refusal in refusals(site, study)]
    try:
        return agreed_plan(site, study), found
    except PolicyError as refusal:
        return None, [*found, _line(refusal)]


def _line(refusal: PolicyError) -> str:
    """Return a refusal without where it comes from and what a coordinator may do."""
    asked = [f"{word} {text}" for word, text in (("asked:", refusal.found), ("allowed:", refusal.allowed)) if text]
    return "; ".join([f"{refusal.code} {refusal.what}", *asked])


def _leaving(study: Study, made: Plan) -> list[Leaving]:
    when = rounds_of(study)
    stays = {"reweighting", "alone", "group_losses"} | ({"statistics"} if study.standardize.method == "site" else set())
    return [
        Leaving(one.name, one.split, tuple(when[one.name]), one.name not in stays, one.added)
        for one in planned(study, made)
    ]


def _beyond(spent: Sequence[Spent]) -> list[str]:
    """Tell where a whole run does not fit below the cap any more; a run that is under way may, and ends there."""
    return [
        f"A whole run takes {one.split} patients to epsilon {one.after:.3f}, beyond the cap of {one.cap:g}: "
        "the trainer answers as long as something is left, and then refuses (SITE-E104)."
        for one in spent
        if one.after > one.cap and math.isfinite(one.run) and one.run > 0
    ]


def _last(decisions: Sequence[Decision], study: Study) -> Decision | None:
    approved = [decision for decision in decisions if decision.action == "approve"]
    return next((one for one in reversed(approved) if one.name == study.name), approved[-1] if approved else None)


def _finite(value: Any) -> Any:  # noqa: ANN401 - a number or a word
    return None if isinstance(value, float) and math.isinf(value) else value

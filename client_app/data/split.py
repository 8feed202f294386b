"""Train, audit and test: three sets that share no patient."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence

from fedfm.config.site import Split
from fedfm.errors import ConfigError, DataError
from fedfm.examples import Example, Splits

log = logging.getLogger(__name__)

PARTS = ("train", "audit", "test")


def split_by_patient(examples: Sequence[Example], split: Split, salt: str) -> Splits:
    """Divide the patients by a hash of their identifier.

    *Guarantees*: all examples of a patient are in one set; the set depends on the patient,
    the shares and the salt alone, so that re-runs, another order of rows and new patients
    move nobody.

    Args:
        examples: In any order; each set keeps it.
        split: Shares that add up to 1; ``split.column`` is not looked at.
        salt: Public text that makes two cohorts' divisions independent.

    Raises:
        ConfigError: The shares do not add up to 1 (SITE-E027).
        DataError: No patient trains (SITE-E021).
    """
    total = split.train + split.audit + split.test
    if abs(total - 1) > 1e-6:
        raise ConfigError(
            "SITE-E027",
            "the shares of the patients do not add up to 1",
            where="site.yaml data.split",
            found=f"{split.train:g} + {split.audit:g} + {split.test:g} = {total:g}",
        )

    def part_of(example: Example) -> str:
        place = hash_to_unit(example.patient, salt)
        return "train" if place < split.train else "audit" if place < split.train + split.audit else "test"

    return _divided(examples, part_of)


def split_by_column(examples: Sequence[Example], parts: Sequence[str]) -> Splits:
    """Divide as a column of the file says.

    Args:
        examples: In any order.
        parts: For each example ``train``, ``audit`` or ``test``.

    Raises:
        DataError: Another word stands there, a patient is in two sets (SITE-E018), or none trains (SITE-E021).
    """
    where = "site.yaml data.split.column"
    unknown = sum(part not in PARTS for part in parts)
    if unknown:
        log.error("data.split.column: %d of %d rows hold another word", unknown, len(parts))
        raise DataError(
            "SITE-E018",
            "the split of some rows cannot be read",
            where=where,
            allowed=", ".join(PARTS),
            fix="correct the column; the trainer's log says how many rows",
        )
    memberships: dict[str, set[str]] = {}
    for example, part in zip(examples, parts, strict=True):
        memberships.setdefault(example.patient, set()).add(part)
    torn = sum(len(found) > 1 for found in memberships.values())
    if torn:
        log.error("data.split.column: %d of %d patients are in more than one set", torn, len(memberships))
        raise DataError(
            "SITE-E018",
            "some patients are in more than one set",
            where=where,
            fix="give all rows of a patient the same word, or leave split.column out; "
            "the trainer's log says how many patients",
        )
    return _divided(examples, lambda example: next(iter(memberships[example.patient])))


def division(split: Split) -> str:
    """Return a fingerprint of how patients are divided; another one may put a patient into another set.

    Of a column it knows the name alone: who edits the column moves patients unseen.
    """
    told = [split.column] if split.column else [split.train, split.audit, split.test]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def hash_to_unit(patient: str, salt: str) -> float:
    """Return a number in [0, 1) that looks random and depends on its two arguments alone."""
    # The length keeps ("ab", "c") and ("a", "bc") apart.
    digest = hashlib.sha256(f"{len(salt)}:{salt}:{patient}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48  # 48 bits: a float holds them exactly


def _divided(examples: Sequence[Example], part_of: Callable[[Example], str]) -> Splits:
    parts: dict[str, list[Example]] = {part: [] for part in PARTS}
    for example in examples:
        parts[part_of(example)].append(example)
    if not parts["train"]:
        raise DataError("SITE-E021", "no patient is left to train on", where="site.yaml data.split")
    return Splits(**{part: tuple(chosen) for part, chosen in parts.items()})

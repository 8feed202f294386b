"""What is refused before it can touch the global model or the counts, with the reason."""

import math
import re
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from fedfm.arrays import Arrays, check_layout, layout
from fedfm.errors import IncompatibleUpdate
from fedfm.wire import PrivacySpent

MAX_UPDATE = 100.0
"""Largest magnitude of an entry of an update; trained parameters are of order 1, so only a fault comes near."""

MAX_PATIENTS = 10**7
"""Largest cohort that a site may declare; the largest hospital groups stay below it."""

MAX_SECONDS = 1e7
"""Longest time that a site may report, about four months: longer than any round."""

MAX_SPENT = 1e12
"""Largest finite epsilon or noise multiplier; an epsilon beyond it is no guarantee, and is said as infinity."""

MAX_ENTRIES = 2**53
"""Longest ledger or audit log that a site may report."""

MAX_NOISE = 1e4
"""Largest standard deviation of a count or a sum, in patients or documents; beyond it no figure could be given."""

PER_DECLARED = 10
"""Most test patients, or audit documents, for each declared patient: generous, for what is declared is rounded."""

NOISE_WIDTH = 10
"""Standard deviations that noise may move a count; Gaussian noise goes beyond ten with a chance below 1e-22."""

_UNITS = ("patient", "record", "none")


def screen_update(
    update: Arrays, *, like: Arrays, fingerprint: str, cohorts: tuple[int, int], steps: tuple[int, int]
) -> None:
    """Let through only an update that may be averaged.

    Args:
        update: float32 parameters after minus before, as a site sent them.
        like: Global parameters; their names and shapes are the reference.
        fingerprint: The layout that the site says it trained.
        cohorts: Patients that the site declared when it joined, and in this answer.
        steps: Optimiser steps that the site says it took, and those that were asked for.

    Raises:
        IncompatibleUpdate: Another layout, name or shape, a cohort that changed, or a value that is not
            finite or beyond ``MAX_UPDATE``.
    """
    if fingerprint != layout(like):
        raise IncompatibleUpdate(
            "ROUND-E011",
            "the update belongs to another model or adapter",
            found=fingerprint[:12],
            allowed=layout(like)[:12],
            fix="use the same release of fedfm and the same weights at every site",
        )
    check_layout(update, like=like)
    joined, answered = cohorts
    if answered != joined or joined < 1:
        raise IncompatibleUpdate(
            "ROUND-E012",
            "the declared cohort is not the one the site joined with",
            found=str(answered),
            allowed=f"{joined}, and at least 1",
            fix="keep declared_patients in site.yaml for the length of a run; it is the site's weight",
        )
    taken, asked = steps
    within("ROUND-E022", "the number of steps", taken, (1, asked))
    for name, array in update.items():
        wrong = ~(np.abs(array) <= MAX_UPDATE)  # not-a-number is wrong, too
        if wrong.any():
            raise IncompatibleUpdate(
                "ROUND-E013",
                f"the update is not finite, or too large, in {name}",
                found=f"{int(wrong.sum())} of {array.size} entries",
                allowed=f"finite, from {-MAX_UPDATE:g} to {MAX_UPDATE:g}",
                fix="lower training.learning_rate; this update was left out, the site is asked again in the next round",
            )


def screen_counts(
    cells: NDArray[np.float64], sd: float, *, shapes: Collection[tuple[int, int]], declared_patients: int
) -> None:
    """Let through only cells that may be added to those of the other sites.

    Args:
        cells: float64[C, K] patients by label and score, as a site sent them.
        sd: Standard deviation of the noise in each cell, as the site states it.
        shapes: Every (C, K) that the study allows in this round.
        declared_patients: Cohort that the site joined with; with the noise it bounds every count.

    Raises:
        IncompatibleUpdate: Another shape, or a number that no such cohort with such noise can give.
    """
    if cells.shape not in shapes:
        raise IncompatibleUpdate(
            "ROUND-E014",
            "the counts have another shape",
            found=str(cells.shape),
            allowed=either(shapes),
            fix="use the same release of fedfm at every site",
        )
    within("ROUND-E015", "cells_sd", sd, (0.0, MAX_NOISE))
    most, noise = float(PER_DECLARED * declared_patients), NOISE_WIDTH * sd
    for cell in cells.flat:
        within("ROUND-E015", "a count of patients", float(cell), (-noise, most + noise))
    of_all = noise * math.sqrt(cells.size)
    within("ROUND-E015", "the sum of the counts", float(cells.sum()), (-of_all, most + of_all))


def screen_sums(
    sums: NDArray[np.float64], *, size: int, noise: tuple[float, float], bound: float, declared_patients: int
) -> None:
    """Let through only sums over training patients that may be added to those of the other sites.

    Args:
        sums: float64[K] as a site sent them.
        size: K of the study.
        noise: Standard deviation in each sum as the site states it, and the largest that can be.
        bound: The most that one patient adds to any of them.
        declared_patients: Cohort that the site joined with; with bound and noise it limits every sum.

    Raises:
        IncompatibleUpdate: Another length, or a number that no such cohort with such noise can give.
    """
    if sums.shape != (size,):
        raise IncompatibleUpdate(
            "ROUND-E030",
            "the sums have another length",
            found=str(sums.shape),
            allowed=str((size,)),
            fix="use the same release of fedfm and the same weights at every site",
        )
    stated, largest = noise
    within("ROUND-E030", "sums_sd", stated, (0.0, largest))
    most = bound * PER_DECLARED * declared_patients + NOISE_WIDTH * stated
    for number in sums:
        within("ROUND-E030", "a sum over training patients", float(number), (-most, most))


def screen_cohort(declared_patients: int) -> None:
    """Let through only a cohort that can be, before it becomes the site's weight.

    Raises:
        IncompatibleUpdate: Below 1 or beyond ``MAX_PATIENTS``.
    """
    within("ROUND-E012", "declared_patients", declared_patients, (1, MAX_PATIENTS))


def screen_account(spent: PrivacySpent, *, seconds: float = 0.0) -> None:
    """Let through only what can be: time and privacy are reported, and a report must not fail over them.

    Epsilons may be infinite, which is how a site says that a split has no guarantee.

    Args:
        spent: Delta in (0, 1), epsilons and noise at least 0, lengths at least 0, seals of 64 hexadecimal digits.
        seconds: How long the site says that it took; at least 0.

    Raises:
        IncompatibleUpdate: A number out of its range, or a unit that does not exist.
    """
    within("ROUND-E019", "seconds", seconds, (0.0, MAX_SECONDS))
    if spent.unit not in _UNITS:
        raise IncompatibleUpdate(
            "ROUND-E019", "no such unit of privacy", found=spent.unit[:20], allowed=", ".join(_UNITS)
        )
    if not 0 < spent.delta < 1:
        raise IncompatibleUpdate(
            "ROUND-E019", "delta is out of range", found=f"{spent.delta:g}", allowed="between 0 and 1"
        )
    within("ROUND-E019", "noise_multiplier", spent.noise_multiplier, (0.0, MAX_SPENT))
    for what, entries, seal in (
        ("ledger", spent.entries, spent.seal),
        ("audit log", spent.audit_entries, spent.audit_seal),
    ):
        within("ROUND-E019", f"entries of the {what}", entries, (0, MAX_ENTRIES))
        if bool(seal) != bool(entries) or not re.fullmatch(r"([0-9a-f]{64})?", seal):
            allowed = "64 hexadecimal digits"
            raise IncompatibleUpdate(
                "ROUND-E019", f"no seal in the account of the {what}", found=seal[:20], allowed=allowed
            )
    for name in ("train", "audit", "test", "run", "planned"):
        epsilon = getattr(spent, name)
        if epsilon != math.inf:
            within("ROUND-E019", f"epsilon ({name})", epsilon, (0.0, MAX_SPENT))


def either(shapes: Collection[tuple[int, int]]) -> str:
    """Return shapes as they stand in a message."""
    return " or ".join(map(str, shapes)) or "none"


def within(code: str, what: str, value: float, allowed: tuple[float, float]) -> None:
    """Refuse a number outside the range, and not-a-number."""
    low, high = allowed
    if not low <= value <= high:
        raise IncompatibleUpdate(
            code,
            f"{what} is out of range",
            found=f"{value:.6g}",
            allowed=f"{low:g} to {high:g}",
            fix="this answer was left out; the site looks at its log",
        )


def check_answer(site: str, *, expected: str, seen: Collection[str], answered: int, asked: int) -> None:
    """Refuse an answer under another name, a second answer, and an answer to another round.

    Args:
        site: The name that the answer bears.
        expected: The name under which this connection was welcomed.
        seen: Sites that have answered in this round.
        answered: The round that the answer bears.
        asked: The round that was asked for.

    Raises:
        IncompatibleUpdate: One of the three.
    """
    if site != expected:
        raise IncompatibleUpdate("ROUND-E017", "an answer under another name", found=site[:80], allowed=expected)
    if site in seen:
        raise IncompatibleUpdate(
            "ROUND-E016", "a second answer of one site", fix="register each SuperNode once, with its own id"
        )
    if answered != asked:
        raise IncompatibleUpdate("ROUND-E010", "an answer to another round", found=str(answered), allowed=str(asked))

"""Limits on the figures of a model that is about to be sent: pure functions, for the site's people.

Figures are exact, a number per document, and stay here. Intervals are of the documents (``fedfm.metrics.bootstrap``).
A gate that fewer than ``LEAST`` documents speak for is not judged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedfm.explain.between_groups import largest_difference
from fedfm.explanations import COMPLETENESS_MOST, ENRICHMENT_MOST, SHIFT_RISE_MOST
from fedfm.metrics import bootstrap
from fedfm.metrics.performance import LEAST_PATIENTS, Estimate

Figures = Mapping[str, NDArray[np.float64]]
"""Name to float64[N]."""

LEAST = LEAST_PATIENTS
"""Fewest documents that a gate is judged by."""

REGRESSION_MOST = -0.05
ALL_MOST = 0.3
FLIPS_MOST = 0.02
GROUP_GAP_MOST = 0.05
LOSS_RISE_MOST = 0.05
"""In nats; each loss counts at most ``fedfm.metrics.counts.LOSS_CAP``."""
NORM_DEVIATIONS = 4.0
LEAST_NORMS = 5
"""Fewest earlier updates that have a usual length."""


@dataclass(frozen=True)
class Gate:
    """What one limit says of a model.

    Attributes:
        name: For example ``faithfulness`` or ``shortcut:scanner``.
        passed: None where it cannot be judged.
        estimate: The figure with its 95 % interval; None where there is none.
        limit: What it is held against.
        reason: The same in plain words, without anything of a patient.
    """

    name: str
    passed: bool | None
    estimate: Estimate | None
    limit: float
    reason: str


def faithfulness(figures: Figures, rng: np.random.Generator) -> Gate:
    """Credited words must matter more than words in random order: the lower end of the difference is above 0 (C3)."""
    found = _mean(figures["comprehensiveness"] - figures["random_order"], rng)
    reason = "credited words matter {more} than words in random order"
    return _gate("faithfulness", found, 0.0, bool(found and found.low > 0), _said(reason, found and found.low > 0))


def completeness(figures: Figures, rng: np.random.Generator) -> Gate:
    """Credits must add up to what they explain: the median error is at most ``COMPLETENESS_MOST`` (C2).

    Not the mean: the error is relative, and large where there is little to explain.
    """
    errors = figures["completeness_error"]
    found = bootstrap.median(errors, rng) if len(errors) >= LEAST else None
    passed = bool(found and found.value <= COMPLETENESS_MOST)
    reason = "credits add up" if passed else "credits do not add up: the explanations are unreliable, not the model"
    return _gate("completeness", found, COMPLETENESS_MOST, passed, reason)


def regression(now: NDArray[np.float64], before: NDArray[np.float64], rng: np.random.Generator) -> Gate:
    """Reasons must not be lost since the site's last check, on the same documents (C4).

    Args:
        now: float64[N] comprehensiveness.
        before: float64[N] the same of the last round's model, document by document.
        rng: Draws documents.
    """
    found = _mean(now - before, rng)
    passed = bool(found and found.high >= REGRESSION_MOST)
    reason = "reasons matter as much as in the last round" if passed else "reasons matter less than in the last round"
    return _gate("regression", found, REGRESSION_MOST, passed, reason)


def randomisation(name: str, correlations: NDArray[np.float64], limit: float, rng: np.random.Generator) -> Gate:
    """Credits must change when parameters are drawn anew (C5).

    Source: Adebayo et al. 2018, arXiv:1810.03292.
    """
    found = _mean(correlations, rng)
    passed = bool(found and found.value < limit)
    reason = "explanations follow what was learned" if passed else "explanations are alike without what was learned"
    return _gate(name, found, limit, passed, reason)


def shortcut(
    name: str,
    mass: NDArray[np.float64],
    share: NDArray[np.float64],
    *,
    rise: NDArray[np.float64],
    rng: np.random.Generator,
) -> Gate:
    """Training here must not teach a leaning on words of a list (C6).

    It fails where the words hold more than 1.5 times the credit that their number says, and more than in the received
    model, both for certain. One alone does not: what a site receives may lean on words that another site has taught,
    and a rise from nothing to little is no shortcut. The estimate is that of the rise, which tells sites apart.

    Args:
        name: The list's.
        mass: float64[N] share of all credit on its words, of the trained model.
        share: float64[N] share of the words that are of the list.
        rise: float64[N] ``mass`` minus that of the received model.
        rng: Draws documents, the same ones for both.
    """
    if len(share) < LEAST or not share.any():
        return Gate(f"shortcut:{name}", None, None, 0.0, "the list's words are in too few documents")
    drawn = bootstrap.drawn(len(share), rng)
    words, credit = share[drawn].sum(axis=1), mass[drawn].sum(axis=1)
    # a draw without any word of the list says nothing against it
    ratios = np.divide(credit, words, out=np.ones_like(credit), where=words > 0)
    leans = bootstrap.percentiles(float(mass.sum() / share.sum()), ratios).low > ENRICHMENT_MOST
    found = bootstrap.percentiles(float(rise.mean()), rise[drawn].mean(axis=1))
    rises = found.low > 0
    return Gate(f"shortcut:{name}", not (leans and rises), found, 0.0, _SHORTCUT[leans, rises])


_SHORTCUT = {
    (True, True): "words of the list decide more than their number says, and training here adds to that",
    (True, False): "words of the list decide more than their number says: the received model already leans on them, "
    "and training here does not add to that",
    (False, True): "training here gives words of the list more credit, but no more than their number says",
    (False, False): "words of the list decide no more than their number says",
}


def swap(name: str, flips: NDArray[np.float64], *, rise: NDArray[np.float64], rng: np.random.Generator) -> Gate:
    """Training here must not make answers hang on phrases that are exchanged (C6).

    It fails where more than 2 of 100 answers change, and their probability changes by more than ``SHIFT_RISE_MOST``
    above what it does in the received model, both for certain. The estimate is that of the rise.

    Args:
        name: The list's.
        flips: float64[N], 1 where the answer of the trained model changes.
        rise: float64[N] by how much its probability changes, minus the same of the received model.
        rng: Draws documents, the same ones for both.
    """
    if len(flips) < LEAST:
        return Gate(f"swap:{name}", None, None, SHIFT_RISE_MOST, "too few documents to say")
    drawn = bootstrap.drawn(len(flips), rng)
    changes = bootstrap.percentiles(float(flips.mean()), flips[drawn].mean(axis=1)).low > FLIPS_MOST
    found = bootstrap.percentiles(float(rise.mean()), rise[drawn].mean(axis=1))
    rises = found.low > SHIFT_RISE_MOST
    return Gate(f"swap:{name}", not (changes and rises), found, SHIFT_RISE_MOST, _SWAP[changes, rises])


_SWAP = {
    (True, True): "answers change when phrases are exchanged, and training here adds to that",
    (True, False): "answers change when phrases are exchanged: the received model's already do, and training here "
    "does not add to that",
    (False, True): "training here lets phrases that are exchanged move answers more, but too little to change them",
    (False, False): "answers stay when phrases are exchanged",
}


def groups(
    attribute: str, gains: NDArray[np.float64], of: Sequence[str], listed: Sequence[str], rng: np.random.Generator
) -> Gate:
    """Reasons must be as faithful in each group: no gap above ``GROUP_GAP_MOST`` for certain, of any two (C7).

    Args:
        attribute: For example ``sex``.
        gains: float64[N] comprehensiveness over random order.
        of: N groups.
        listed: The groups to compare; those with fewer than ``LEAST`` documents are left out.
        rng: Draws documents.
    """
    members = [group if group in listed else None for group in of]
    found = largest_difference(gains, members, least=LEAST, seed=int(rng.integers(2**63)))
    if found is None:
        return Gate(f"groups:{attribute}", None, None, GROUP_GAP_MOST, "fewer than two groups have enough documents")
    passed = found.low <= GROUP_GAP_MOST
    reason = "reasons hold alike in all groups" if passed else "reasons hold less in one group than in another"
    return _gate(f"groups:{attribute}", found, GROUP_GAP_MOST, passed, reason)


def utility(before: NDArray[np.float64], after: NDArray[np.float64], rng: np.random.Generator) -> Gate:
    """Training here must not make the model worse on audit documents: losses do not rise for certain (C8).

    Args:
        before: float64[N] loss of the received model, in nats.
        after: float64[N] loss of the model that is sent.
        rng: Draws documents.
    """
    found = _mean(after - before, rng)
    passed = bool(found and found.low <= LOSS_RISE_MOST)
    reason = "training here {more} the loss on audit documents"
    words = reason.replace("{more}", "does not raise" if passed else "raises")
    return _gate("utility", found, LOSS_RISE_MOST, passed, words)


def update(norm: float, earlier: Sequence[float]) -> Gate:
    """The update must be finite and about as long as this site's earlier ones (C1).

    Args:
        norm: Its length over all parameters; not finite where one of them is not.
        earlier: Lengths of earlier updates of this run, oldest first.
    """
    if not np.isfinite(norm):
        return Gate("update", False, None, 0.0, "the update is not finite")
    if len(earlier) < LEAST_NORMS:
        return Gate("update", None, None, 0.0, "too few earlier updates to say how long one usually is")
    usual, spread = float(np.mean(earlier)), float(np.std(earlier, ddof=1))
    most = NORM_DEVIATIONS * spread
    passed = abs(norm - usual) <= most
    reason = "the update is as long as earlier ones" if passed else "the update is far from as long as earlier ones"
    return Gate("update", passed, Estimate(norm, norm, norm), usual + most if norm > usual else usual - most, reason)


def _gate(name: str, found: Estimate | None, limit: float, passed: bool, reason: str) -> Gate:
    if found is None:
        return Gate(name, None, None, limit, "too few documents to say")
    return Gate(name, passed, found, limit, reason)


def _said(reason: str, more: object) -> str:
    return reason.replace("{more}", "more" if more else "no more")


def _mean(values: NDArray[np.float64], rng: np.random.Generator) -> Estimate | None:
    """Return the mean and its interval; None of too few documents."""
    return bootstrap.mean(values, rng) if len(values) >= LEAST else None

"""What is refused of a site's explanations and checks before they are added to those of the others."""

import math
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from fedfm.explain.sum_gates import of_model
from fedfm.explanations import MOST_TERMS, ranges
from server_app.screening import MAX_NOISE, NOISE_WIDTH, PER_DECLARED, within
from server_app.screening_sums import unasked

_PHI = 0.4  # density of a normal distribution at its middle, the mean of its positive half


def screen_explained(
    sums: Mapping[str, float], sd: float, *, names: Collection[str], what: str, declared_patients: int
) -> None:
    """Let through only the sums that were asked for, with numbers that such a cohort can give; a site may have none.

    Args:
        sums: Name to the sum over audit documents, as a site sent them.
        sd: Standard deviation of the noise in each, as the site states it.
        names: Exactly what was asked for in this round; empty for nothing.
        what: The field, for the message.
        declared_patients: Cohort that the site joined with; with the noise it bounds the documents, and the documents
            bound every other sum.

    Raises:
        IncompatibleUpdate: Other sums, or a number out of bounds.
    """
    within("ROUND-E015", f"{what}_sd", sd, (0.0, MAX_NOISE))
    if not sums:
        return
    if set(sums) != set(names):
        found = ", ".join(sorted(set(sums) ^ set(names))) if names else ", ".join(sorted(sums))
        raise unasked(f"sums ({what})", found, ", ".join(names) or "none in this round")
    documents, noise = sums["documents"], NOISE_WIDTH * sd
    within("ROUND-E015", "the number of documents", documents, (-noise, _most(declared_patients) + noise))
    largest = max(documents, 0.0) + noise
    for name, (low, high) in ranges([name for name in sums if name != "documents"]).items():
        within("ROUND-E015", "a sum of explanations", sums[name], (low * largest - noise, high * largest + noise))


def screen_terms(
    terms: NDArray[np.float64], sd: tuple[float, float], *, size: int, declared_patients: int, documents: float
) -> None:
    """Let through only credits of the study's vocabulary that such a cohort can give; a site may withhold them.

    Args:
        terms: float64[2, V] credits and documents, or float64[2, 0] for none, as a site sent them.
        sd: Standard deviation of the noise in each credit, and in each number of documents, as the site states them.
        size: V of the study; 0 where nothing is asked in this round.
        declared_patients: Cohort that the site joined with.
        documents: Documents that the site has explained at most: what it says in this answer, and the noise in it.

    Raises:
        IncompatibleUpdate: Another shape, or a number out of bounds.
    """
    within("ROUND-E015", "terms_sd", sd[0], (0.0, MAX_NOISE))
    within("ROUND-E015", "term_documents_sd", sd[1], (0.0, MAX_NOISE))
    if terms.shape == (2, 0):
        return
    if terms.shape != (2, size):
        allowed = f"(2, {size}) or (2, 0)" if size else "(2, 0): none in this round"
        raise unasked("credits of terms", str(terms.shape), allowed)
    of_credit, of_count = (NOISE_WIDTH * noise for noise in sd)
    most = min(_most(declared_patients), max(documents, 0.0))
    for credited, held in terms.T.tolist():
        within("ROUND-E015", "a term's number of documents", held, (-of_count, most + of_count))
        largest = max(held, 0.0) + of_count + of_credit  # no document credits a term with more than 1
        within("ROUND-E015", "a term's credit", credited, (-largest, largest))
    spread = math.sqrt(size)
    # a site shows the terms whose noised number is large: what noise alone adds to those is at most phi(0) each
    of_noise = sd[1] * (_PHI * size + NOISE_WIDTH * spread)
    within("ROUND-E015", "the terms of all documents", float(terms[1].sum()), (-of_noise, MOST_TERMS * most + of_noise))
    longest = most + sd[0] * (spread + NOISE_WIDTH)  # each document's credits have length 1 at most
    within("ROUND-E015", "the length of the credits", float(np.linalg.norm(terms[0])), (0.0, longest))


def screen_half(failed: Collection[str], *, is_downweighted: bool) -> None:
    """Let a site ask for half a weight only where the sums in the same answer do not pass a gate of the model.

    Args:
        failed: Gates that have failed and count, judged by the sums (``fedfm.explain.sum_gates.counted``).
        is_downweighted: Whether the site asks that its update count half.

    Raises:
        IncompatibleUpdate: It asks without such a gate.
    """
    if is_downweighted and not of_model(failed):
        raise unasked("half a weight", "no gate of the model that has failed", "with a gate that has failed")


def _most(declared_patients: int) -> float:
    return float(PER_DECLARED * declared_patients)

"""Credits of a public vocabulary: the only words about which anything may leave a hospital."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedfm.explain.words import Credits, finite, matches, shares
from fedfm.explanations import MOST_TERMS


def term_credits(
    credits_: Credits, names: Sequence[str], vocabulary: Sequence[str]
) -> tuple[Credits, NDArray[np.bool_]]:
    """Return what one document says of each term, its whole credit taken as 1.

    Each word counts for one term at most, the longest that stands there; a term that is listed twice counts for the
    first place. Of more than ``MOST_TERMS`` terms those with most credit of either sign stay, and of equals those
    listed first.

    Args:
        credits_: float64[W] credit of each word.
        names: The W words.
        vocabulary: V terms, each of a word or more.

    Returns:
        float64[V] credits and bool[V], which terms the document counts for; a term may stand in it without credit.
        Of a document without any credit all are 0.

    *Guarantees* The credits' absolute values sum to at most 1, and so their length is at most 1, up to rounding; at
    most ``MOST_TERMS`` entries are true, and all others' credits are 0.
    """
    signed = shares(credits_) * np.sign(finite(credits_))
    summed, holds = np.zeros(len(vocabulary)), np.zeros(len(vocabulary), dtype=np.bool_)
    for which, places in matches(names, vocabulary):
        summed[which] += signed[places].sum()
        holds[which] = True
    most = np.lexsort((np.arange(len(vocabulary)), -np.abs(summed), ~holds))
    holds[most[MOST_TERMS:]] = False
    summed[~holds] = 0.0
    return summed / max(1.0, float(np.linalg.norm(summed))), holds

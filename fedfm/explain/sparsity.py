"""On how few words the reasons stand."""

import numpy as np

from fedfm.explain.words import Credits, shares


def gini(credits_: Credits) -> float:
    """Return how unevenly credit of either sign is spread: 0 all alike, or no credit; (W - 1) / W all on one word.

    Source: Hurley and Rickard 2009, Comparing measures of sparsity, arXiv:0811.4706, table I.
    """
    part = np.sort(shares(credits_))
    if not part.any():
        return 0.0
    count = len(part)
    rank = np.arange(1, count + 1)
    return float(np.clip((2 * rank - count - 1) @ part / count, 0.0, 1.0))


def effective_words(credits_: Credits) -> float:
    """Return the number of words that hold the credit, were it spread evenly over them: from 1 to W; 0 without credit.

    It is e to the entropy of the shares in nats (Hill 1973, number of order 1).
    """
    part = shares(credits_)
    part = part[part > 0]
    return float(np.exp(-(part * np.log(part)).sum())) if len(part) else 0.0

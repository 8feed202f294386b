"""One look at the reasons of a model, document by document: what the site checks and the coordinator compares.

All of it is sample-level. What leaves a hospital are sums of it (``fedfm.explanations``), with noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Figures = NDArray[np.float64]


@dataclass(frozen=True)
class Watched:
    """Lists of words that reasons are held against.

    Attributes:
        shortcuts: Name to words, phrases or columns that must not decide.
        swaps: Name to phrases that are exchanged for others.
        vocabulary: V terms whose credit is counted.
    """

    shortcuts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    swaps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    vocabulary: Sequence[str] = ()


@dataclass(frozen=True)
class Audit:
    """The figures of N documents, each finite and in its range of ``fedfm.explanations.RANGES``; sample-level.

    Attributes:
        sums: Name of a sum to float64[N], what each document adds to it; 0 where it is not defined for a document
            (nothing to swap, no word at all).
        groups: For each document its protected groups.
        terms: float64[N, V] credit of each term of the vocabulary, the document's whole credit taken as 1, each row
            clipped to length 1 and at most ``MOST_TERMS`` entries; of two classes credit for the positive class,
            of more for the predicted one.
        holds: bool[N, V] the same entries: which terms a document counts for.
    """

    sums: Mapping[str, Figures]
    groups: Sequence[Mapping[str, str]]
    terms: Figures
    holds: NDArray[np.bool_]

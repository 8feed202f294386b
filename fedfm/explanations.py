"""Which figures of explanations leave a hospital: the site sums by it, the coordinator screens by it. Free of torch.

Each is a sum over audit documents, one of each patient, and a document adds a number of ``RANGES`` to it.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedfm.config.study import Study

Figures = NDArray[np.float64]

RANGES: Mapping[str, tuple[float, float]] = {
    "comprehensiveness": (-1.0, 1.0),
    "random_order": (-1.0, 1.0),
    "sufficiency": (-1.0, 1.0),
    "completeness_error": (0.0, 1.0),
    "shortcut_mass": (0.0, 1.0),
    "shortcut_share": (0.0, 1.0),
    "swap_shift": (0.0, 1.0),
    "swap_flip": (0.0, 1.0),
    "mass_rise": (-1.0, 1.0),
    "swap_rise": (-1.0, 1.0),
    "randomised_head": (0.0, 1.0),
    "documents": (1.0, 1.0),
}
"""Figure to what one document adds at least and at most; a figure of a named list is ``figure:name``.

``shortcut_mass`` is the share of all credit that falls on the list's words, ``shortcut_share`` the share of the
words that are of the list; ``swap_shift`` the change of the predicted class's probability, ``swap_flip`` 1 where the
class changes; ``mass_rise`` and ``swap_rise`` are ``shortcut_mass`` and ``swap_shift`` of a trained model minus those
of the model that it was trained from, on the same document: what a site receives may lean on what another has taught.
``randomised_head`` is the rank correlation of credits with those after the head is drawn anew, 0 where it is negative.
"""

COMPLETENESS_MOST = 0.15
"""Error of credits that still add up."""

HEAD_MOST = 0.6
"""Rank correlation that credits must stay below when the head is drawn anew."""

ENRICHMENT_MOST = 1.5
"""Times the credit that a list's words may hold of what their number says."""

SHIFT_RISE_MOST = 0.15
"""Probability of the predicted class by which an exchange may change answers more than in the received model."""

MOST_TERMS = 16
"""Most terms of the vocabulary that one document counts for; of more, those that hold most credit."""


def sum_names(study: Study) -> tuple[str, ...]:
    """Return the sums that a site tells of the global model, in a fixed order."""
    return names_of(study.explainability.shortcuts, study.explainability.swaps)


def names_of(shortcuts: Iterable[str], swaps: Iterable[str]) -> tuple[str, ...]:
    """Return the sums that lists of these names give, in a fixed order."""
    of_lists = [f"{figure}:{name}" for name in sorted(shortcuts) for figure in ("shortcut_mass", "shortcut_share")]
    of_lists += [f"{figure}:{name}" for name in sorted(swaps) for figure in ("swap_shift", "swap_flip")]
    return ("comprehensiveness", "random_order", "sufficiency", "completeness_error", *of_lists, "documents")


def check_names(study: Study) -> tuple[str, ...]:
    """Return the sums that a site tells of its own model before it sends it."""
    asked = study.explainability
    rises = [f"mass_rise:{name}" for name in sorted(asked.shortcuts)]
    rises += [f"swap_rise:{name}" for name in sorted(asked.swaps)]
    return ("comprehensiveness", "random_order", "completeness_error", *rises, "randomised_head", "documents")


def figure_of(name: str) -> str:
    """Return the figure of ``RANGES`` that a sum is of."""
    return name.partition(":")[0]


def ranges(names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return sum to what one document adds at least and at most."""
    return {name: RANGES[figure_of(name)] for name in names}


def rises(trained: Mapping[str, Figures], received: Mapping[str, Figures]) -> dict[str, Figures]:
    """Return how much more a model leans on each list than the one that it was trained from, document by document.

    Args:
        trained: Its figures of lists, and any others.
        received: Those of lists of the model before training, of the same N documents in the same order.

    Returns:
        ``mass_rise:NAME`` and ``swap_rise:NAME`` to float64[N] in [-1, 1].
    """
    found = {}
    for name, figures in trained.items():
        figure, _, words = name.partition(":")
        if figure in _RISES:
            found[f"{_RISES[figure]}:{words}"] = figures - received[name]
    return found


_RISES = {"shortcut_mass": "mass_rise", "swap_shift": "swap_rise"}

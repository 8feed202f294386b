"""Which figures of explanations leave a hospital: the site sums by it, the coordinator screens by it. Free of torch.

Each is a sum over audit documents, one of each patient, and a document adds a number of ``RANGES`` to it.
"""

from collections.abc import Iterable, Mapping, Sequence

from fedfm.config.study import Study

RANGES: Mapping[str, tuple[float, float]] = {
    "comprehensiveness": (-1.0, 1.0),
    "random_order": (-1.0, 1.0),
    "sufficiency": (-1.0, 1.0),
    "completeness_error": (0.0, 1.0),
    "shortcut_mass": (0.0, 1.0),
    "shortcut_share": (0.0, 1.0),
    "swap_shift": (0.0, 1.0),
    "swap_flip": (0.0, 1.0),
    "randomised_head": (0.0, 1.0),
    "documents": (1.0, 1.0),
}
"""Figure to what one document adds at least and at most; a figure of a named list is ``figure:name``.

``shortcut_mass`` is the share of all credit that falls on the list's words, ``shortcut_share`` the share of the
words that are of the list; ``swap_shift`` the change of the predicted class's probability, ``swap_flip`` 1 where the
class changes; ``randomised_head`` the rank correlation of credits with those after the head is drawn anew, 0 where it
is negative.
"""

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
    return (*sum_names(study)[:-1], "randomised_head", "documents")


def figure_of(name: str) -> str:
    """Return the figure of ``RANGES`` that a sum is of."""
    return name.partition(":")[0]


def ranges(names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return sum to what one document adds at least and at most."""
    return {name: RANGES[figure_of(name)] for name in names}

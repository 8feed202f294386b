"""One look at the reasons of a model, document by document: what the site checks and the coordinator compares.

All of it is sample-level. What leaves a hospital are sums of it (``fedfm.explanations``), with noise.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedfm.examples import Example
from fedfm.explain.attribution import Method
from fedfm.explain.deletion import credited_order, paired_deletions, random_order
from fedfm.explain.documents import Explained, explained
from fedfm.explain.randomisation import rank_correlation_after, sizes_of
from fedfm.explain.shortcuts import mass_and_share
from fedfm.explain.swaps import swap_effects
from fedfm.explain.terms import term_credits
from fedfm.explanations import RANGES, figure_of, names_of
from fedfm.model.classifier import Classifier

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
        sizes: For each document the absolute credits of its words, as ``rank_correlation_after`` takes them.
    """

    sums: Mapping[str, Figures]
    groups: Sequence[Mapping[str, str]]
    terms: Figures
    holds: NDArray[np.bool_]
    sizes: Sequence[Figures] = ()


def audit(
    model: Classifier,
    examples: Sequence[Example],
    *,
    method: Method,
    watched: Watched,
    rng: np.random.Generator,
    randomised: bool = False,
) -> Audit:
    """Look at the reasons of a model on N documents; the sums are those of ``fedfm.explanations``, in that order.

    A document's figures depend on no other document: its random order is drawn from a seed of its own.

    Args:
        model: Without hooks; as before afterwards, bit by bit.
        examples: The documents.
        method: How words are credited.
        watched: Lists of words; those of a study give the sums of ``sum_names``.
        rng: Draws a seed for the head and one for each document.
        randomised: Also draw the head anew, and add ``randomised_head``, before ``documents``.

    Guarantees:
        Every number is finite and in its range, whatever the parameters; what cannot be computed is 0.

    Raises:
        ModelError: As ``attribute``.
        DataError: An example lacks what the model reads.
    """
    head_seed, *seeds = rng.integers(2**63, size=len(examples) + 1).tolist()
    names = (
        *names_of(watched.shortcuts, watched.swaps)[:-1],
        *(("randomised_head",) if randomised else ()),
        "documents",
    )
    sums = {name: np.zeros(len(examples)) for name in names}
    terms = np.zeros((len(examples), len(watched.vocabulary)))
    holds, sizes = np.zeros(terms.shape, dtype=np.bool_), []
    for place, one in enumerate(explained(model, examples, method)):
        for name, figure in (_deleted(model, one, seeds[place]) | _on_shortcuts(one, watched.shortcuts)).items():
            sums[name][place] = figure
        terms[place], holds[place] = term_credits(_toward_positive(model, one), one.names, watched.vocabulary)
        sizes.append(sizes_of(one))
    sums |= _on_swaps(model, examples, watched.swaps)
    if randomised:
        sums["randomised_head"] = rank_correlation_after(
            model, examples, method=method, parts="head", seed=head_seed, before=sizes
        )
    sums["documents"] = np.ones(len(examples))
    groups = [example.groups for example in examples]
    return Audit(sums=_bounded(sums), groups=groups, terms=terms, holds=holds, sizes=sizes)


def leanings_in(found: Audit, watched: Watched) -> dict[str, Figures]:
    """Return what ``leanings`` gives, in its order, out of a whole look at the same model."""
    shortcuts = _names(watched.shortcuts, "shortcut_mass", "shortcut_share")
    return {name: found.sums[name] for name in (*shortcuts, *_names(watched.swaps, "swap_shift", "swap_flip"))}


def leanings(model: Classifier, examples: Sequence[Example], *, method: Method, watched: Watched) -> dict[str, Figures]:
    """Look at N documents only for how a model leans on the lists: the figures of lists that ``audit`` gives, equal.

    Nothing is deleted or drawn anew, so that it costs one pass of credits, and two of the model for each swap.

    Args:
        model: Without hooks; as before afterwards, bit by bit.
        examples: The documents.
        method: How words are credited.
        watched: Lists of words; without any there is no figure and no cost.

    Returns:
        ``shortcut_mass:NAME``, ``shortcut_share:NAME``, ``swap_shift:NAME`` and ``swap_flip:NAME``, float64[N] each,
        finite and in range.

    Raises:
        ModelError: As ``attribute``.
        DataError: An example lacks what the model reads.
    """
    sums = {name: np.zeros(len(examples)) for name in _names(watched.shortcuts, "shortcut_mass", "shortcut_share")}
    for place, one in enumerate(explained(model, examples, method) if watched.shortcuts else ()):
        for name, figure in _on_shortcuts(one, watched.shortcuts).items():
            sums[name][place] = figure
    return _bounded(sums | _on_swaps(model, examples, watched.swaps))


def credited(
    model: Classifier, examples: Sequence[Example], *, method: Method, vocabulary: Sequence[str]
) -> tuple[Figures, NDArray[np.bool_]]:
    """Return ``terms`` and ``holds`` as ``audit`` gives them, equal, at the cost of the credits alone.

    Args:
        model: Without hooks.
        examples: N documents.
        method: How words are credited.
        vocabulary: V terms.

    Raises:
        ModelError: As ``attribute``.
        DataError: An example lacks what the model reads.
    """
    terms = np.zeros((len(examples), len(vocabulary)))
    holds = np.zeros(terms.shape, dtype=np.bool_)
    for place, one in enumerate(explained(model, examples, method)):
        terms[place], holds[place] = term_credits(_toward_positive(model, one), one.names, vocabulary)
    return terms, holds


def _deleted(model: Classifier, one: Explained, seed: int) -> dict[str, float]:
    inputs, error = one.inputs, one.attributed.completeness_error
    found = paired_deletions(
        model,
        inputs,
        one.attributed.target,
        orders=[credited_order(inputs, 0, one.credits)],
        random=[random_order(inputs, 0, seed=seed)],
    )
    incomplete = 0.0 if error is None else error.double().item()
    return {**{name: figures.item() for name, figures in vars(found).items()}, "completeness_error": incomplete}


def _on_shortcuts(one: Explained, shortcuts: Mapping[str, Sequence[str]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, phrases in shortcuts.items():
        found[f"shortcut_mass:{name}"], found[f"shortcut_share:{name}"] = mass_and_share(
            one.credits, one.names, phrases
        )
    return found


def _on_swaps(
    model: Classifier, examples: Sequence[Example], swaps: Mapping[str, Mapping[str, str]]
) -> dict[str, Figures]:
    found: dict[str, Figures] = {}
    for name, phrases in swaps.items():
        effects = swap_effects(model, examples, phrases)
        found[f"swap_shift:{name}"], found[f"swap_flip:{name}"] = effects
    return found


def _names(lists: Iterable[str], *figures: str) -> list[str]:
    return [f"{figure}:{name}" for name in lists for figure in figures]


def _toward_positive(model: Classifier, one: Explained) -> Figures:
    """Return float64[W]: of two classes credits for the positive one, which is the other's with the other sign."""
    task = model.recipe.task
    positive = task.labels.index(task.positive or task.labels[-1])
    is_other = len(task.labels) == 2 and int(one.attributed.target) != positive
    return -one.credits if is_other else one.credits


def _bounded(sums: Mapping[str, Figures]) -> dict[str, Figures]:
    """Return the figures finite and in range; parameters from a coordinator that lies may overflow."""
    return {name: np.clip(np.nan_to_num(figures), *RANGES[figure_of(name)]) for name, figures in sums.items()}

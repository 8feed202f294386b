"""``fedfm-site explain``: the reasons of a model for single documents, at the hospital and for its own people.

Nothing leaves, so nothing is charged: the ledger is neither read nor written. What is shown is of single patients and
carries no noise; it must not be shown outside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from client_app.cohorts import device_of
from client_app.data.catalog import load_splits
from client_app.reasons import checked_model
from client_app.reasons.checks import with_own
from fedfm.arrays import Arrays
from fedfm.config.coherence.attribution import OF_TEXT
from fedfm.config.explainability import Explainability
from fedfm.config.site import Site
from fedfm.config.study import Task
from fedfm.errors import DataError
from fedfm.examples import Example, Splits
from fedfm.explain.attribution import method_of
from fedfm.explain.audit import Watched
from fedfm.explain.deletion import credited_order, deletions, random_order
from fedfm.explain.documents import Explained, explained
from fedfm.explain.shortcuts import mass_and_share
from fedfm.explain.swaps import swap_effects, swapped
from fedfm.model.build import load_adapter
from fedfm.model.classifier import Classifier
from fedfm.model.saved import read_recipe

RANDOM_ORDERS = 19
"""With so many, chance alone puts credited words before all of them once in 20 times."""

SPLITS = ("train", "audit", "test")


@dataclass(frozen=True)
class Shown:
    """A model whose reasons are shown.

    Attributes:
        model: On the site's device, without hooks.
        settings: How words are credited, and the study's lists.
        whose: Where the model is from, in words.
    """

    model: Classifier
    settings: Explainability
    whose: str


@dataclass(frozen=True)
class Swapped:
    """What exchanging the phrases of one list does to one document.

    Attributes:
        shift: Change of the predicted class's probability, in [0, 1].
        flips: Whether another class is predicted.
    """

    shift: float
    flips: bool


@dataclass(frozen=True)
class Document:
    """The reasons of a model for one document; sample-level.

    Attributes:
        example: The document.
        split: ``train``, ``audit`` or ``test``.
        label: What the table says.
        predicted: What the model says.
        probability: Of that class, in [0, 1]; None where the model gives no finite answer.
        names: W words that the model reads, or its columns.
        credits: float64[W] how much each speaks for the predicted class, in its logit.
        comprehensiveness: Drop of the probability without the most credited words, in [-1, 1].
        random: float64[RANDOM_ORDERS] the same for words in random order, smallest first.
        sufficiency: Drop where only these words are left, in [-1, 1].
        completeness_error: 0 or more; None where the method's credits need not add up.
        swaps: List to what exchanging its phrases does, None where the document has none of them.
        shortcuts: List to the share of all credit on its words, and the share of its words among all.
    """

    example: Example
    split: str
    label: str
    predicted: str
    probability: float | None
    names: tuple[str, ...]
    credits: NDArray[np.float64]
    comprehensiveness: float
    random: NDArray[np.float64]
    sufficiency: float
    completeness_error: float | None
    swaps: Mapping[str, Swapped | None]
    shortcuts: Mapping[str, tuple[float, float]]

    @property
    def has_reasons(self) -> bool:
        """Whether any word has credit, and the model an answer."""
        return self.probability is not None and bool(self.credits.any())

    @property
    def is_faithful(self) -> bool:
        """Whether credited words matter more than those of every random order."""
        return self.has_reasons and self.comprehensiveness > self.random[-1]


def shown_model(
    site: Site, adapter: Path | None, *, attribution: str | None, steps: int | None, baseline: str | None
) -> Shown:
    """Return the model that the site has checked last, or that of a run's folder.

    Args:
        site: This hospital.
        adapter: ``adapter`` of a run's results; None for the last one checked here.
        attribution: How words are credited; None for as the study does.
        steps: For methods that have some; None for the study's.
        baseline: For methods that have one; None for the study's.

    Raises:
        FedFMError: There is no model, it is damaged, or it cannot be explained so.
    """
    if adapter is None:
        kept = checked_model.last(site)
        model, settings = checked_model.built(kept, site), kept.study.explainability
        whose = f"trained here in round {kept.round} of run {kept.run}, before anything was sent ({kept.time[:10]})"
    else:
        model, settings = load_adapter(adapter, weights=site.weights, statistics=_own(site, adapter)), Explainability()
        whose = f"of the folder {adapter}"
    settings = replace(
        settings,
        attribution=attribution or settings.attribution,
        steps=steps or settings.steps,
        baseline=baseline or settings.baseline,
    )
    _refuse_unfit(model.recipe.task, settings.attribution)
    return Shown(model.to(device_of(site)), settings, whose)


def chosen(splits: Splits, *, documents: int, row: int | None) -> list[tuple[str, Example]]:
    """Return one document of each of the first audit patients, or the one of a row; each with the split it is of.

    Args:
        splits: The site's examples.
        documents: How many at most.
        row: Of the table, the first below its names is 1; None for audit patients.

    Raises:
        DataError: There is none.
    """
    if row is not None:
        found = [(name, one) for name in SPLITS for one in getattr(splits, name) if one.row == row - 1]
    else:
        first: dict[str, Example] = {}
        for example in splits.audit:
            first.setdefault(example.patient, example)
        found = [("audit", example) for example in list(first.values())[:documents]]
    if not found:
        raise DataError(
            "SITE-E172",
            "there is no document to show",
            where="--row" if row is not None else "data.split.audit",
            found="no patient with a document in this row" if row is not None else "no audit patient",
            allowed="a row of the table, the first below its names is 1; rows without a note are left out",
            fix="name another row" if row is not None else "name a row with --row, or give data.split.audit a share",
        )
    return found


def documents_of(site: Site, shown: Shown, *, documents: int, row: int | None) -> list[Document]:
    """Explain the chosen documents of the site.

    Raises:
        FedFMError: The data does not fit the site file or the model, or there is no such document.
    """
    found = chosen(load_splits(site, shown.model.recipe.task), documents=documents, row=row)
    return explained_documents(shown, found, with_own(shown.settings, site.explanations))


def explained_documents(shown: Shown, examples: Sequence[tuple[str, Example]], watched: Watched) -> list[Document]:
    """Explain each document, in order.

    Args:
        shown: The model.
        examples: Split and document.
        watched: Lists that reasons are held against.
    """
    only = [example for _, example in examples]
    swaps = _swaps(shown.model, only, watched)
    made = []
    for place, one in enumerate(explained(shown.model, only, method_of(shown.settings))):
        parts = {name: effects[place] for name, effects in swaps.items()}
        made.append(_document(shown, one, examples[place], swaps=parts, watched=watched))
    return made


def _document(
    shown: Shown,
    one: Explained,
    of: tuple[str, Example],
    *,
    swaps: Mapping[str, Swapped | None],
    watched: Watched,
) -> Document:
    (split, example), chance = of, _chance(shown.model, one)
    labels, target = shown.model.recipe.task.labels, int(one.attributed.target)
    names, credited = one.names, one.credits
    error = one.attributed.completeness_error
    comprehensive, sufficient = _deleted(shown, example, credited, target)
    return Document(
        example=example,
        split=split,
        label=labels[example.label],
        predicted=labels[target],
        probability=chance if np.isfinite(chance) else None,
        names=names,
        credits=credited,
        comprehensiveness=float(comprehensive[0]),
        random=np.sort(comprehensive[1:]),
        sufficiency=float(sufficient[0]),
        completeness_error=None if error is None else float(error),
        swaps=swaps,
        shortcuts={name: mass_and_share(credited, names, words) for name, words in watched.shortcuts.items()},
    )


def _deleted(
    shown: Shown, example: Example, credited: NDArray[np.float64], target: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return comprehensiveness and sufficiency, of the credited order first and then of the random ones."""
    orders = RANDOM_ORDERS + 1
    inputs = shown.model.inputs([example] * orders, baseline=shown.settings.baseline)
    seeds = np.random.default_rng().integers(2**63, size=RANDOM_ORDERS).tolist()
    of = [credited_order(inputs, 0, credited), *(random_order(inputs, 0, seed=seed) for seed in seeds)]
    found = deletions(shown.model, inputs, torch.full((orders,), target, device=inputs.values.device), of)
    return np.nan_to_num(found[0]), np.nan_to_num(found[1])


@torch.no_grad()
def _chance(model: Classifier, one: Explained) -> float:
    logits = model.logits_from_inputs(one.inputs.values, one.inputs.present).double()
    return logits.softmax(-1)[0, int(one.attributed.target)].item()


def _swaps(model: Classifier, examples: Sequence[Example], watched: Watched) -> dict[str, list[Swapped | None]]:
    found: dict[str, list[Swapped | None]] = {}
    for name, phrases in watched.swaps.items():
        shift, flip = swap_effects(model, examples, phrases)
        applies = [swapped(example, phrases, model.recipe.task) is not None for example in examples]
        effects = zip(applies, shift.tolist(), flip.tolist(), strict=True)
        found[name] = [Swapped(moved, bool(other)) if there else None for there, moved, other in effects]
    return found


def _own(site: Site, adapter: Path) -> Arrays | None:
    """Return the statistics of this site, where the saved model needs them and a model checked here has them."""
    if read_recipe(adapter).standardize != "site":
        return None
    kept = checked_model.last(site)
    return kept.statistics if kept.study.standardize.method == "site" else None


def _refuse_unfit(task: Task, attribution: str) -> None:
    """Refuse a method that credits nothing, or not what the task gives."""
    of_columns = task.inputs == "columns" and attribution in OF_TEXT
    if attribution == "none" or of_columns:
        raise DataError(
            "SITE-E173",
            OF_TEXT[attribution] if of_columns else "there is nothing to explain: no method is named",
            where="--attribution",
            found=attribution,
            allowed="integrated_gradients, or another method that credits what the model reads",
            fix="choose --attribution integrated_gradients",
        )

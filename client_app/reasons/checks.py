"""Which audit documents are looked at, and how: one look for what leaves and for what stays here."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from client_app.asked import Round
from fedfm.config.explainability import Explainability
from fedfm.config.site import Explanations
from fedfm.examples import Example
from fedfm.explain import audit as looks
from fedfm.explain.attribution import method_of
from fedfm.explain.audit import Audit, Watched
from fedfm.explain.randomisation import rank_correlation_after
from fedfm.explanations import ranges
from fedfm.model.classifier import Classifier

Words = TypeVar("Words")

OWN = "own/"
"""What the name of a site's list begins with, so that no list of a study is ever mistaken for it."""


def audit_documents(asked: Round) -> list[Example]:
    """Return the audit examples whose reasons are looked at: about ``explainability.documents``, by public coins."""
    split = asked.site.data.split
    expected = asked.site.declared_patients * split.audit / split.train
    share = asked.study.explainability.documents / expected if expected else 1.0
    by_record = asked.study.privacy.unit == "record"
    return chosen_documents(asked.prepared.splits.audit, share, asked.request.run, by_record=by_record)


def chosen_documents(examples: Sequence[Example], share: float, salt: str, *, by_record: bool) -> list[Example]:
    """Return one example of each patient that a public coin chooses, of chance ``share``.

    Each patient's coin is a hash of its own, so that a patient who comes or goes displaces nobody.
    Where the record is the unit, all examples of such a patient: a record that goes must not make room for another.
    """
    chosen = [example for example in examples if _coin(example.patient, salt) < share]
    if by_record:
        return chosen
    first: dict[str, Example] = {}
    for example in chosen:
        first.setdefault(example.patient, example)
    return list(first.values())


def of_study(settings: Explainability, *, terms: bool = False) -> Watched:
    """Return the lists of the study alone: what any figure that leaves is made with."""
    return Watched(settings.shortcuts, settings.swaps, settings.vocabulary if terms else ())


def with_own(settings: Explainability, own: Explanations) -> Watched:
    """Return the lists of the study and the site's own, for the site's people.

    A list of the site is called ``own/NAME``, with as many ``own/`` as it takes: the coordinator may give its lists any
    name, and must neither hide one of the site nor have it counted in its place.
    """
    return Watched(
        {**_renamed(own.shortcuts, settings.shortcuts), **settings.shortcuts},
        {**_renamed(own.swaps, settings.swaps), **settings.swaps},
    )


def look(
    model: Classifier,
    documents: Sequence[Example],
    settings: Explainability,
    *,
    watched: Watched,
    randomised: bool = False,
) -> Audit:
    """Return the figures of the model's reasons, document by document. Sample-level: stays at the hospital.

    Guarantees:
        Every figure is finite and in its range, whatever the parameters: what cannot be computed counts as nothing.
        A document's figures do not depend on which others are there: what is random about it comes from the
        operating system's entropy.
    """
    found = looks.audit(
        model,
        documents,
        method=method_of(settings),
        watched=watched,
        rng=np.random.default_rng(secrets.randbits(128)),
        randomised=randomised,
    )
    return replace(found, sums=_bounded(found.sums), terms=np.nan_to_num(found.terms, posinf=0.0, neginf=0.0))


def leanings(
    model: Classifier, documents: Sequence[Example], settings: Explainability, *, watched: Watched
) -> dict[str, looks.Figures]:
    """Return the figures of lists alone, document by document; as sample-level and bounded as those of ``look``."""
    return _bounded(looks.leanings(model, documents, method=method_of(settings), watched=watched))


def without_what_was_learned(
    model: Classifier, documents: Sequence[Example], settings: Explainability, *, found: Audit
) -> looks.Figures:
    """Return float64[N] in [0, 1]: how alike credits are to those of a model whose every parameter is drawn anew.

    Args:
        model: What was looked at.
        documents: The same N documents.
        settings: How words are credited.
        found: What ``look`` has found, so that the model need not be explained again.

    Guarantees:
        The model is as before afterwards.
    """
    correlations = rank_correlation_after(
        model, documents, method=method_of(settings), parts="all", seed=secrets.randbits(62), before=found.sizes
    )
    return np.clip(np.nan_to_num(correlations), 0.0, 1.0)


def _bounded(figures: Mapping[str, looks.Figures]) -> dict[str, looks.Figures]:
    of = ranges(tuple(figures))
    return {name: np.clip(np.nan_to_num(values), *of[name]) for name, values in figures.items()}


def _renamed(own: Mapping[str, Words], of_study: Mapping[str, Words]) -> dict[str, Words]:
    depth = 1
    while any(OWN * depth + name in of_study for name in own):
        depth += 1
    return {OWN * depth + name: words for name, words in own.items()}


def _coin(patient: str, salt: str) -> float:
    digest = hashlib.sha256(f"{salt}\0{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64

"""What leaves of explanations: noised sums over audit documents, each charged before it is computed.

A document adds a number of ``fedfm.explanations.RANGES`` to each sum, at most 1 in size; so a patient who comes or goes
moves k sums by at most the square root of k. Of the vocabulary it moves the credits by at most 1, to which each
document's are clipped, and the numbers of documents by at most the root of ``MOST_TERMS``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from client_app.asked import Round
from client_app.noise import noised_sums
from client_app.reasons.checks import audit_documents, look, of_study
from fedfm.explain.audit import Audit
from fedfm.explanations import MOST_TERMS, check_names, sum_names
from fedfm.metrics.performance import LEAST_PATIENTS
from fedfm.plan import sd
from fedfm.privacy import Release
from fedfm.schedule import check_rounds, explanation_rounds

Sums = dict[str, float]


@dataclass(frozen=True)
class Explained:
    """Noised sums over audit patients; the fields of ``EvaluateReply`` of the same names."""

    explanation: Sums = field(default_factory=dict)
    explanation_sd: float = 0.0
    terms: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 0)))
    terms_sd: float = 0.0
    term_documents_sd: float = 0.0


def explain(asked: Round) -> Explained:
    """Sum the figures of the global model's reasons, and the credits of the study's vocabulary, where it is asked."""
    release, of_terms = asked.plan.explanation, asked.plan.terms
    if release is None or asked.request.round not in explanation_rounds(asked.study):
        return Explained()
    asked.charge("audit", "explanation", release)
    if of_terms is not None:
        asked.charge("audit", "terms", of_terms)
    documents, settings = audit_documents(asked), asked.study.explainability
    found = look(asked.prepared.model, documents, settings, watched=of_study(settings, terms=of_terms is not None))
    sums, added = noised(found, sum_names(asked.study), release, documents=len(documents))
    if of_terms is None:
        return Explained(sums, added)
    return Explained(sums, added, *_terms(found, of_terms))


def release_of_check(asked: Round) -> Release | None:
    """Return the noise of the check of the site's own model; None in rounds in which it stays here."""
    return asked.plan.check if asked.request.round in check_rounds(asked.study) else None


def sums_of_check(asked: Round, found: Audit, release: Release, *, documents: int) -> tuple[Sums, float]:
    """Return noised sums of a look at the site's own model, and their noise; charge ``release`` before the look."""
    return noised(found, check_names(asked.study), release, documents=documents)


def noised(found: Audit, names: Sequence[str], release: Release, *, documents: int) -> tuple[Sums, float]:
    """Return the named sums with noise, and its standard deviation.

    Without any document the noise is sent, so that nobody learns that.
    """
    exact = [documents if name == "documents" else found.sums[name].sum() for name in names]
    added = sd(release) * math.sqrt(len(names))
    noisy = noised_sums(np.array(exact, dtype=np.float64), added)
    return dict(zip(names, noisy.tolist(), strict=True)), added


def _terms(found: Audit, release: Release) -> tuple[NDArray[np.float64], float, float]:
    """Return noised credits and documents of each term, and the noise of the two.

    Each of the two vectors takes half of the joint squared sensitivity. A term of too few documents, by the noised
    number, is 0 in both.
    """
    of_credits, of_documents = sd(release) * math.sqrt(2), sd(release) * math.sqrt(2 * MOST_TERMS)
    credited = noised_sums(found.terms.sum(axis=0), of_credits)
    held = noised_sums(found.holds.sum(axis=0).astype(np.float64), of_documents)
    told = np.where(held >= LEAST_PATIENTS, np.stack([credited, held]), 0.0)
    return told, of_credits, of_documents

"""Models of a round on public examples: every figure by document, exact."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedfm.arrays import Arrays, to_bytes
from fedfm.config.study import Study
from fedfm.examples import Example
from fedfm.explain.agreement import rank_overlap, site_predictability
from fedfm.explain.attribution import method_of
from fedfm.explain.audit import Audit, Watched, audit, credited, leanings, leanings_in
from fedfm.low_rank import FROZEN
from fedfm.metrics import bootstrap
from fedfm.metrics.performance import LEAST_PATIENTS, Estimate
from fedfm.model.low_rank import frozen_as_built, frozen_with, set_frozen
from fedfm.parameters import load_trainable
from server_app import model_host
from server_app.reasons.explained import agreement
from server_app.reference import read_reference
from server_app.report.explanations import Credit, ReferenceExplained, SitesAgree, TermsCredited

Credits = NDArray[np.float64]

_RESAMPLES = 100
"""Of documents, for how certain it is that a site credits other terms."""


@dataclass(frozen=True)
class Loaded:
    """All that a model of a round is made of: float32 trained parameters, and frozen ones as a request holds them."""

    parameters: Arrays
    frozen: Arrays


def chosen(examples: Sequence[Example], count: int, *, seed: int) -> list[Example]:
    """Return ``count`` examples, or all, whose labels are in proportion; the same ones for the same seed.

    Args:
        examples: Public.
        count: At least 1.
        seed: Public.
    """
    order = np.random.default_rng(seed).permutation(len(examples)).tolist()
    by_label: dict[int, list[int]] = {}
    for index in order:
        by_label.setdefault(examples[index].label, []).append(index)
    # the i-th of n of a label stands at (i + 1/2) / n, so that every stretch holds the labels in proportion
    places = {index: (i + 0.5) / len(of) for of in by_label.values() for i, index in enumerate(of)}
    return [examples[index] for index in sorted(sorted(order, key=places.__getitem__)[:count])]


class ReferenceAudit:
    """The study's model and public examples at the coordinator.

    Args:
        study: Names the reference set, and what its models are held against.

    Raises:
        ConfigError: The reference set cannot be used.
        ModelError: The weights are absent, unreadable or not the pinned ones.
    """

    def __init__(self, study: Study) -> None:
        asked = study.explainability
        examples = read_reference(Path(asked.reference), study.task, setting="explainability.reference")
        self._examples = chosen(examples, asked.reference_documents, seed=study.seed)
        self._many = chosen(examples, asked.vocabulary_documents, seed=study.seed)
        self._watched = Watched(asked.shortcuts, asked.swaps, asked.vocabulary)
        self._method, self._seed = method_of(asked), study.seed
        self._model, _ = model_host.build(study)
        self._built = frozen_as_built(self._model, FROZEN.get(study.combining.rule, ""))
        self._kept: tuple[str, dict[str, Credits]] | None = None

    def standardise(self, statistics: Arrays) -> None:
        """Standardise what the models read by pooled statistics; nothing where there are none."""
        if statistics:
            self._model.standard.set(statistics)

    def look(self, loaded: Loaded, *, randomised: bool = False) -> Audit:
        """Return a model's figures; the same random orders in every round, so that rounds are paired."""
        self._load(loaded)
        rng = np.random.default_rng(self._seed)
        return audit(
            self._model, self._examples, method=self._method, watched=self._watched, rng=rng, randomised=randomised
        )

    def keep(self, loaded: Loaded, found: Audit) -> None:
        """Remember how a model leans, as ``look`` has just found, until another is kept.

        In the next round it is the one that the sites are sent, as long as nothing has come between.
        """
        if self._watched.shortcuts or self._watched.swaps:
            self._kept = self._digest(loaded), leanings_in(found, self._watched)

    def leanings(self, loaded: Loaded) -> dict[str, Credits]:
        """Return the figures of lists alone, equal to those that ``look`` gives; not computed anew of what is kept."""
        if self._kept is not None and self._kept[0] == self._digest(loaded):
            return self._kept[1]
        self._load(loaded)
        return leanings(self._model, self._examples, method=self._method, watched=self._watched)

    def told(self, number: int, site: str, found: Audit) -> ReferenceExplained:
        """Return the means of figures over documents, and the mean credit of each term that a document holds."""
        means = {name: self._mean(figures) for name, figures in found.sums.items() if name != "documents"}
        held, credited = np.flatnonzero(found.holds.any(axis=0)).tolist(), found.terms.mean(axis=0).tolist()
        terms = {self._watched.vocabulary[place]: credited[place] for place in held}
        return ReferenceExplained(number, site, len(self._examples), means, terms)

    def terms(self, number: int, loaded: Loaded, found: Audit) -> TermsCredited | None:
        """Return the mean credit of each term over more examples than are looked at; None without a vocabulary.

        Args:
            number: The round.
            loaded: The model.
            found: What ``look`` has found of it, so that its examples need not be explained again.

        How long a term's interval is hangs on how many documents hold it, and few do: of fewer than ``LEAST_PATIENTS``
        a bootstrap does not tell even the sign. A term with fewer is left out.
        """
        vocabulary = self._watched.vocabulary
        if not vocabulary:
            return None
        seen = {id(example): row for row, example in enumerate(self._examples)}
        more = {id(example): example for example in self._many if id(example) not in seen}
        self._load(loaded)
        credits_, holds = credited(self._model, list(more.values()), method=self._method, vocabulary=vocabulary)
        row_of = seen | {key: len(seen) + row for row, key in enumerate(more)}
        rows = [row_of[id(example)] for example in self._many]
        credits_, holds = np.concatenate([found.terms, credits_])[rows], np.concatenate([found.holds, holds])[rows]
        counts = holds.sum(axis=0).tolist()
        known = {
            term: Credit(self._mean(credits_[:, place]), float(counts[place]))
            for place, term in enumerate(vocabulary)
            if counts[place] >= LEAST_PATIENTS
        }
        return TermsCredited(number, "", "reference", known)

    def agreed(self, number: int, audits: Mapping[str, Audit]) -> SitesAgree | None:
        """Compare the sites' models with each other; None for fewer than two, or without a vocabulary."""
        credited = {site: found.terms.mean(axis=0) for site, found in audits.items()}
        if len(audits) < 2 or not self._watched.vocabulary:
            return None
        pairs = tuple(agreement(a, b, credited[a], credited[b]) for a, b in combinations(audits, 2))
        profiles = np.stack([found.terms for found in audits.values()])
        predicted = site_predictability(profiles, rng=np.random.default_rng(self._seed))
        return SitesAgree(number, "reference", pairs, predicted)

    def overlaps(self, audits: Mapping[str, Audit]) -> dict[str, Credits]:
        """Return site to float64[1 + R]: rank overlap with the sites' median credits, then that of resamples.

        A site that credits nothing has no overlap. Empty where the median credits nothing.
        """
        credited = [found.terms.mean(axis=0) for found in audits.values()]
        if not credited or not self._watched.vocabulary:
            return {}
        usual = np.median(credited, axis=0)
        if not usual.any():
            return {}
        rng, size = np.random.default_rng(self._seed), len(self._examples)
        weights = np.vstack([np.ones(size), rng.multinomial(size, np.full(size, 1 / size), size=_RESAMPLES)]) / size
        found = {}
        for site, of in audits.items():
            each = [rank_overlap(credits_, usual) for credits_ in weights @ of.terms]
            found[site] = np.array([0.0 if overlap is None else overlap for overlap in each])
        return found

    def _digest(self, loaded: Loaded) -> str:
        """Return the SHA-256 of all that a model's figures depend on, standardisation too."""
        parts = (loaded.parameters, loaded.frozen, self._model.standard.arrays())
        return hashlib.sha256(b"".join(map(to_bytes, parts))).hexdigest()

    def _load(self, loaded: Loaded) -> None:
        load_trainable(self._model, loaded.parameters)
        set_frozen(self._model, frozen_with(self._model, self._built, loaded.frozen))

    def _mean(self, figures: Credits) -> Estimate:
        return bootstrap.mean(figures, np.random.default_rng(self._seed))

"""From the sites' updates to the next global model: weighing, combining, stepping; Algorithm 1, line 12."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from fedfm.arrays import Arrays
from fedfm.config.coherence.combining import UNWEIGHTED
from fedfm.config.study import Study
from fedfm.errors import EngineError
from fedfm.signals import GRAM, WEIGHTING_NEEDS
from fedfm.wire import TrainReply
from server_app.combining.received import Combined, Received
from server_app.combining.rules import COMBINERS
from server_app.optimizing import OPTIMIZERS, Moments
from server_app.registry import bind
from server_app.signals import Signals
from server_app.updates import Updates
from server_app.weighting.heard import Heard, SiteReport, State, Weighed, Weights
from server_app.weighting.rules import RULES


@dataclass(frozen=True)
class Aggregated:
    """A round's result.

    Attributes:
        parameters: float32, the next global parameters.
        weighed: What the weighting rule said.
        combined: What the combiner said.
        halved: Sites whose weight was halved.
    """

    parameters: Arrays
    weighed: Weighed
    combined: Combined
    halved: tuple[str, ...] = ()

    @property
    def weights(self) -> Weights:
        """float64[S]: how much each update is in the combined one, or what the rule said where nobody can say it."""
        return self.weighed.weights if self.combined.coefficients is None else self.combined.coefficients


class Aggregation:
    """A study's rules and what they keep between rounds.

    Args:
        study: Names the rules.
        frozen: What the sites of the first round load beside the parameters.

    Attributes:
        frozen: What those of the next round load beside; empty where they keep what is built.

    Raises:
        ConfigError: A rule of the study does not exist, or its parameters do not fit.
    """

    def __init__(self, study: Study, frozen: Arrays | None = None) -> None:
        self._weigh = bind(RULES, study.weighting, group="weighting")
        self._combine = bind(COMBINERS, study.combining, group="combining")
        self._optimize = bind(OPTIMIZERS, study.optimizing, group="optimizing")
        self._counts_once = study.combining.rule in UNWEIGHTED
        self._needs_gram = GRAM in WEIGHTING_NEEDS[study.weighting.rule]
        self._state: State = {}
        self._moments: Moments = {}
        self.frozen = frozen or {}

    def aggregate(
        self, parameters: Arrays, updates: Updates, replies: Mapping[str, TrainReply], signals: Signals
    ) -> Aggregated:
        """Return the next global parameters; what the rules keep is kept for the next round.

        A site that asks for it counts half (``halved``), after the weighting rule has spoken, which does not hear of
        it: a Gram rule's direction is then no longer the one that it had chosen for all. Combiners that count every
        site once, whatever its weight, count this one too.

        Args:
            parameters: float32, what the sites started from.
            updates: S updates, S >= 1.
            replies: What each of these sites said beside its update.
            signals: What the last evaluations told.

        Raises:
            EngineError: A weight or a parameter that is not finite; nothing is kept of such a round.
        """
        reports = [_report(replies[site], signals) for site in updates.sites]
        gram = updates.gram() if self._needs_gram else None
        weighed = self._weigh(Heard(reports, gram, signals.gap, self._state))
        asking = () if self._counts_once else tuple(site for site in updates.sites if replies[site].downweighted)
        weighed = replace(weighed, weights=halved(weighed.weights, [site in asking for site in updates.sites]))
        combined = self._combine(Received(parameters, self.frozen, updates, weighed.weights))
        step = self._optimize(combined.update, self._moments)
        after = {name: added(array, step.update[name]) for name, array in parameters.items()}
        _check_finite({"weights": weighed.weights, **after})
        self._state, self._moments, self.frozen = weighed.state, step.moments, combined.frozen
        return Aggregated(after, weighed, combined, asking)

    def kept(self) -> dict[str, bytes]:
        """Return what the rules keep, as files to lie beside a checkpoint: name to contents."""
        files = {"rules.json": json.dumps({"weighting": self._state}, indent=2).encode()}
        arrays: dict[str, NDArray[np.generic]] = {f"moments.{name}": array for name, array in self._moments.items()}
        arrays |= {f"frozen.{name}": array for name, array in self.frozen.items()}
        return files | ({"rules.safetensors": safetensors.numpy.save(arrays)} if arrays else {})

    def take(self, kept: Mapping[str, bytes]) -> None:
        """Go on from what ``kept`` once returned."""
        self._state = json.loads(kept["rules.json"])["weighting"]
        self._moments, self.frozen = _of("moments.", kept), frozen_of(kept)


def frozen_of(kept: Mapping[str, bytes]) -> Arrays:
    """Return ``Aggregation.frozen`` as it was when ``kept`` answered with these files."""
    return _of("frozen.", kept)


def _of(prefix: str, kept: Mapping[str, bytes]) -> dict[str, NDArray[Any]]:
    arrays = safetensors.numpy.load(kept["rules.safetensors"]) if "rules.safetensors" in kept else {}
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def halved(weights: Weights, asking: Sequence[bool]) -> Weights:
    """Return the weights with those of the asking sites halved, and all scaled so that the step keeps its length.

    Where all sites ask, or none, nothing changes. Weights of both signs have no sum to keep and are not scaled.

    Guarantees:
        Non-negative weights keep their sum and stay non-negative; the others' keep their proportions.
    """
    if all(asking) or not any(asking):
        return weights
    kept = np.where(asking, 0.5 * weights, weights)
    return kept * (weights.sum() / kept.sum()) if (weights >= 0).all() and kept.sum() > 0 else kept


def _report(reply: TrainReply, signals: Signals) -> SiteReport:
    return SiteReport(
        site=reply.site,
        declared_patients=reply.declared_patients,
        steps=reply.steps,
        loss=signals.losses.get(reply.site),
        gap=signals.gaps.get(reply.site),
    )


def _check_finite(arrays: Mapping[str, NDArray[np.floating]]) -> None:
    """Rather no model than one that nobody can use: the last checkpoint stays."""
    broken = next((name for name, array in arrays.items() if not np.isfinite(array).all()), None)
    if broken is not None:
        raise EngineError(
            "ROUND-E025",
            "the combined model is not finite",
            where=broken,
            allowed="finite numbers",
            fix="choose another weighting, combining or optimizing; the last checkpoint is kept",
        )


def added(array: NDArray[np.float32], update: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return a parameter after an update, rounded once."""
    return (array.astype(np.float64) + update).astype(np.float32)

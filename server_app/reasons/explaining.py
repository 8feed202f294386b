"""The reasons of every round's models, looked at on public examples at the coordinator.

It reads noised updates and public examples only, so that it costs no epsilon. What public texts show is not what a
hospital's patients show; that is what the sites' own figures are for.

The global model is looked at after every aggregation. In the first round, in every ``explainability.every``-th (the
fifth where it is 0) and in the last, its credits of the vocabulary are averaged over more examples, and each site's
update is looked at, too, as if the model were its alone: what the site was sent, with the frozen parameters that it
loaded, and its update; so that it means the same under every combining rule and optimizer, and is what the site itself
has checked. How it leans on the study's lists is held against the model that it was sent, which may lean on them
already. In these rounds the global model's head is drawn anew as well.

A round is marked where the global model falls behind the best of the last rounds twice in a row: the two rounds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from fedfm.arrays import Arrays
from fedfm.config.study import Study
from fedfm.errors import EngineError
from fedfm.explain import agreement
from fedfm.explain.audit import Audit
from fedfm.metrics.bootstrap import Figures
from fedfm.metrics.performance import LEAST_PATIENTS
from fedfm.plan import explains
from fedfm.schedule import update_rounds, warm_up_rounds
from server_app.aggregation import added
from server_app.reasons import explanation_gates as gates
from server_app.reasons import leaning_gates
from server_app.reasons.explanation_gates import Gate
from server_app.reasons.reference_audit import Loaded, ReferenceAudit
from server_app.report.event_log import EventLog
from server_app.report.explanations import GateJudged, ReasonsLost
from server_app.updates import Updates


@dataclass(frozen=True)
class KeptFigures:
    """``explanation_gates.Seen``, as JSON has it."""

    round: int
    figures: dict[str, tuple[float, ...]]
    breached: tuple[str, ...]


@dataclass(frozen=True)
class KeptReasons:
    """``Explaining`` between two rounds."""

    marked: tuple[int, ...]
    seen: tuple[KeptFigures, ...]
    credits: tuple[float, ...] | None
    drifts: tuple[float, ...]


class Explaining:
    """A study's audits on its reference set, and what is remembered of them; does nothing where there is none.

    Args:
        study: The study.
        log: Where figures and judgements are told.

    Attributes:
        marked: Rounds whose aggregation has lost reasons.

    Raises:
        ConfigError: The reference set cannot be used.
    """

    def __init__(self, study: Study, log: EventLog) -> None:
        self._study, self._log = study, log
        is_asked = explains(study) and bool(study.explainability.reference)
        self._at = ReferenceAudit(study) if is_asked else None
        self.marked: set[int] = set()
        self._seen: list[gates.Seen] = []
        self._credits: Figures | None = None
        self._drifts: list[float] = []

    def kept(self) -> KeptReasons:
        """Return all that is remembered."""
        return KeptReasons(
            marked=tuple(sorted(self.marked)),
            seen=tuple(
                KeptFigures(
                    seen.round,
                    {name: tuple(figures.tolist()) for name, figures in seen.figures.items()},
                    tuple(sorted(seen.breached)),
                )
                for seen in self._seen
            ),
            credits=None if self._credits is None else tuple(self._credits.tolist()),
            drifts=tuple(self._drifts),
        )

    def take(self, kept: KeptReasons) -> None:
        """Remember what ``kept`` once returned, and nothing else."""
        self.marked, self._drifts = set(kept.marked), list(kept.drifts)
        self._credits = None if kept.credits is None else np.array(kept.credits)
        self._seen = [
            gates.Seen(
                seen.round,
                {name: np.array(figures) for name, figures in seen.figures.items()},
                frozenset(seen.breached),
            )
            for seen in kept.seen
        ]

    def measure(self, number: int, received: Loaded, made: Loaded, updates: Updates, statistics: Arrays) -> None:
        """Look at a round's models, and tell what is found.

        Args:
            number: The round.
            received: The model that the sites started from.
            made: The new global model.
            updates: The sites' S updates.
            statistics: What the model's input is standardised by; empty where nothing was pooled.
        """
        if self._at is None:
            return
        self._at.standardise(statistics)
        is_full = number in update_rounds(self._study)
        found = self._at.look(made, randomised=is_full)
        self._log.emit(self._at.told(number, "", found))
        judged = self._of_model(number, found)
        if is_full:
            judged += self._of_sites(number, self._at, received, updates)
            credited = self._at.terms(number, made, found)
            if credited is not None:
                self._log.emit(credited)
        self._tell(number, judged)
        self._remember(number, found, [gate.gate for gate in judged if gate.passed is False])
        self._at.keep(made, found)

    def stop_if_asked(self, number: int) -> None:
        """End the run where this round has lost reasons and the study says that this ends it.

        Raises:
            EngineError: ROUND-E031.
        """
        if number in self.marked and self._study.explainability.action == "stop":
            raise EngineError(
                "ROUND-E031",
                f"aggregation has lost reasons that earlier models had, after round {number}",
                where="explainability.action",
                found=", ".join(sorted(self._seen[-1].breached)),
                allowed=f"at most {gates.LOST:g} less than the best of the {gates.EARLIER} rounds before, for certain",
                fix="the checkpoint of this round is kept; look at the report's part on reasons, then change weighting "
                "or combining, or set explainability.action=report",
            )

    def _of_model(self, number: int, found: Audit) -> list[Gate]:
        rng, sums = np.random.default_rng(self._study.seed), found.sums
        credits_, before = found.terms.mean(axis=0), self._credits
        drifted = None if before is None else agreement.drift(credits_, before)
        judged = [
            gates.faithfulness(sums["comprehensiveness"], sums["random_order"], rng),
            *(gates.regression(figure, sums[figure], self._seen, rng) for figure in gates.LOSSES),
            gates.drift(drifted, self._drifts),
            *gates.modality({self._study.task.inputs: np.ones(len(credits_))}, rng),
        ]
        self._credits = credits_
        if drifted is not None and number > self._warm_up + 1:  # both rounds lie behind the warm-up
            self._drifts.append(drifted)
        return self._if_enough(number, judged, documents=len(found.terms))

    def _of_sites(self, number: int, at: ReferenceAudit, received: Loaded, updates: Updates) -> list[Gate]:
        leaning = at.leanings(received)
        audits = {site: at.look(alone(received, updates, site)) for site in updates.sites}
        for site, found in audits.items():
            self._log.emit(at.told(number, site, found))
        agreed = at.agreed(number, audits)
        if agreed is not None:
            self._log.emit(agreed)
        rng, is_private = np.random.default_rng(self._study.seed), self._study.privacy.mechanism != "none"
        predicted = None if agreed is None else agreed.site_predictability
        judged = [
            *gates.faithfulness_of_sites(_deleted(audits), rng),
            *leaning_gates.of_sites({site: found.sums for site, found in audits.items()}, leaning, rng),
            *gates.outliers(at.overlaps(audits)),
            gates.predictability(predicted, is_private=is_private),
        ]
        return self._if_enough(number, judged, documents=len(next(iter(audits.values())).terms))

    @property
    def _warm_up(self) -> int:
        return warm_up_rounds(self._study)

    def _if_enough(self, number: int, judged: Iterable[Gate], *, documents: int) -> list[Gate]:
        """Return the gates without a judgement in the warm-up, and of too few documents."""
        if number <= self._warm_up:
            return [
                gates.unjudged(gate, "no gate speaks in the first rounds (explainability.warm_up)") for gate in judged
            ]
        if documents < LEAST_PATIENTS:
            return [gates.unjudged(gate, f"fewer than {LEAST_PATIENTS} public examples") for gate in judged]
        return list(judged)

    def _tell(self, number: int, judged: Iterable[Gate]) -> None:
        for gate in judged:
            self._log.emit(GateJudged(round=number, **vars(gate)))

    def _remember(self, number: int, found: Audit, failed: Iterable[str]) -> None:
        """Keep the round as a measure for those to come, and mark it where it is the second to fall behind."""
        if number <= self._warm_up:
            return
        breached = frozenset(name.partition(":")[2] for name in failed if name.startswith("regression:"))
        before = self._seen[-1] if self._seen else None
        figures = {figure: found.sums[figure] for figure in gates.LOSSES}
        self._seen.append(gates.Seen(number, figures, breached))
        lost = breached & before.breached if before is not None else frozenset[str]()
        if before is None or not lost:
            return
        names = tuple(sorted(f"regression:{figure}" for figure in lost))
        reasons = tuple(f"{figure} fell in rounds {before.round} and {number}" for figure in sorted(lost))
        for one in sorted({before.round, number} - self.marked):
            self.marked.add(one)
            self._log.emit(ReasonsLost(one, names, self._study.explainability.action, reasons))


def alone(received: Loaded, updates: Updates, site: str) -> Loaded:
    """Return the model that a site has made of the one it was sent."""
    moved = updates.named(updates.row(site).astype(np.float64))
    parameters = {name: added(array, moved[name]) for name, array in received.parameters.items()}
    return Loaded(parameters, received.frozen)


def _deleted(audits: Mapping[str, Audit]) -> dict[str, tuple[Figures, Figures]]:
    return {site: (found.sums["comprehensiveness"], found.sums["random_order"]) for site, found in audits.items()}

"""What each site's update has brought, measured on a public reference set at the coordinator.

Subsets of the sites are judged without training again: the model that they would have made is put together from the
updates that are there (Wang et al. 2020, arXiv:2009.06192; Liu et al. 2022, arXiv:2109.02053). It reads noised updates
and public examples only, so that it costs no epsilon. It is a report, not a bill: a site whose patients the reference
set lacks brings little here, whatever it brings them.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedfm.arrays import Arrays
from fedfm.config.study import Rule, Study
from fedfm.errors import EngineError
from fedfm.parameters import load_trainable
from server_app import model_host
from server_app.aggregation import added
from server_app.combining.received import Combined, Received, combination
from server_app.games import CONTRIBUTIONS, Game
from server_app.reference import read_reference
from server_app.registry import bind
from server_app.report.event_log import EventLog
from server_app.report.judgements import ContributionMeasured
from server_app.updates import Updates

_BATCH = 512
"""Reference examples that are judged at once."""


class Contribution:
    """A study's contribution report; does nothing where the study asks for none.

    Args:
        study: The study.
        log: Where each round's values are told.

    Raises:
        ConfigError: The reference set cannot be used.
    """

    def __init__(self, study: Study, log: EventLog) -> None:
        self._study, self._log = study, log
        self._is_asked = study.contribution.rule != "none"
        if self._is_asked:
            params = {name: value for name, value in study.contribution.params.items() if name != "reference"}
            self._method = bind(CONTRIBUTIONS, Rule(study.contribution.rule, params), group="contribution")
            path = Path(str(study.contribution.params["reference"]))
            examples = read_reference(path, study.task, setting="contribution.params.reference")
            self._model, _ = model_host.build(study)
            self._states = self._model.encode(examples)
            self._labels = torch.tensor([example.label for example in examples])

    def measure(self, number: int, before: Arrays, updates: Updates, combined: Combined, statistics: Arrays) -> None:
        """Tell what each site's update of a round has brought.

        Args:
            number: The round.
            before: Parameters that the sites started from.
            updates: Their S updates.
            combined: Its coefficients say how much of each was taken.
            statistics: What the model's input is standardised by; empty where nothing was pooled.

        Raises:
            EngineError: The combined update is no weighted sum.
        """
        if not self._is_asked:
            return
        if combined.coefficients is None:
            raise EngineError(
                "ROUND-E024",
                "the update of this round is no weighted sum of the sites' updates, so that no share in it is known",
                where="contribution.rule",
                found=f"combining.rule {self._study.combining.rule}",
                fix="choose combining=linear, or contribution=none",
            )
        if statistics:
            self._model.standard.set(statistics)
        received = Received(before, {}, updates, combined.coefficients)
        game = Game(len(updates.sites), lambda members: self._worth(received, members))
        values = self._method(game, np.random.default_rng((self._study.seed, number)))
        self._log.emit(
            ContributionMeasured(
                round=number,
                method=self._study.contribution.rule,
                values=dict(zip(updates.sites, values.tolist(), strict=True)),
                total=game.total,
                evaluations=game.evaluations,
            )
        )

    def _worth(self, received: Received, members: frozenset[int]) -> float:
        """Return minus the mean loss, in nats, of the model that these sites would have made."""
        update = combination(received, renormalised(received.weights, members)).update
        return self.judge({name: added(array, update[name]) for name, array in received.before.items()})

    def judge(self, parameters: Arrays) -> float:
        """Return minus the mean loss of these parameters on the reference set, in nats."""
        load_trainable(self._model, parameters)
        total = 0.0
        with torch.no_grad():
            for start in range(0, len(self._states), _BATCH):
                logits = self._model(self._states[start : start + _BATCH]).double()
                labels = self._labels[start : start + _BATCH]
                total -= float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
        return total / len(self._states)


def renormalised(coefficients: NDArray[np.float64], members: frozenset[int]) -> NDArray[np.float64]:
    """Return the coefficients of some sites' updates, scaled to sum to that of all; of the others 0.

    Where those of the members do not sum to more than 0, they are not scaled.
    """
    chosen = np.zeros(len(coefficients), dtype=bool)
    chosen[list(members)] = True
    kept = np.where(chosen, coefficients, 0.0)
    whole, part = float(coefficients.sum()), float(kept.sum())
    return kept * (whole / part) if members and part > 0 and not chosen.all() else kept

"""What a run remembers from one round to the next beside the parameters, and how it lies in a checkpoint."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from server_app.aggregation import Aggregation
from server_app.checkpoints import not_of_this_release
from server_app.choice import Choice, Judged
from server_app.reasons.explaining import Explaining, KeptReasons
from server_app.report.typed import typed
from server_app.signals import KeptSignals, Signals

_FILE = "memory.json"


@dataclass(frozen=True)
class Memory:
    """The parts of a run that outlive a round.

    Attributes:
        aggregation: The rules' state, the optimiser's moments, and what sites load beside the parameters.
        signals: What the evaluations have told of the sites.
        choice: What they have told of each round's model.
        explaining: What the audits on public examples have told.
    """

    aggregation: Aggregation
    signals: Signals
    choice: Choice
    explaining: Explaining

    def kept(self) -> dict[str, bytes]:
        """Return all of it as files: kind to contents."""
        told = _Kept(self.signals.kept(), self.choice.kept(), self.explaining.kept())
        return self.aggregation.kept() | {_FILE: json.dumps(asdict(told)).encode()}

    def take(self, kept: Mapping[str, bytes], folder: Path) -> None:
        """Go on from what ``kept`` once returned, which lies in ``folder``.

        Raises:
            EngineError: It is not what this release keeps.
        """
        try:
            told: _Kept = typed(_Kept, json.loads(kept[_FILE]), _FILE)
            self.aggregation.take(kept)
        except (KeyError, ValueError, TypeError) as problem:
            raise not_of_this_release(folder, found=type(problem).__name__) from problem
        self.signals.take(told.signals)
        self.choice.take(told.judged)
        self.explaining.take(told.reasons)


@dataclass(frozen=True)
class _Kept:
    signals: KeptSignals
    judged: tuple[Judged, ...]
    reasons: KeptReasons

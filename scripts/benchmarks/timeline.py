"""When things happened in a run, from its events."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RoundTimes:
    """Wall times of one round.

    Attributes:
        train: Seconds from asking the sites to train until their updates were combined.
        evaluate: Seconds from there until the evaluation of all sites was there.
        compute: Seconds of the slowest site's own training and of the slowest site's own evaluation together.
    """

    train: float
    evaluate: float
    compute: float


def moments(folder: Path) -> list[tuple[float, dict[str, Any]]]:
    """Return each event of a run with its moment in seconds since the epoch."""
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    return [(datetime.fromisoformat(event["time"]).timestamp(), event) for event in events]


def round_times(folder: Path) -> list[RoundTimes]:
    """Return the times of each round of a run that evaluates after every round."""
    happened = moments(folder)
    rounds = sorted({event["round"] for _, event in happened if event["kind"] == "RoundCombined"})
    return [_times([pair for pair in happened if pair[1].get("round") == number]) for number in rounds]


def _times(happened: list[tuple[float, dict[str, Any]]]) -> RoundTimes:
    at = {event["kind"]: moment for moment, event in happened}  # the last of each kind
    slowest = {
        kind: max(event["seconds"] for _, event in happened if event["kind"] == kind)
        for kind in ("SiteTrained", "SiteEvaluated")
    }
    return RoundTimes(
        train=at["RoundCombined"] - at["RoundStarted"],
        evaluate=at["ModelEvaluated"] - at["RoundCombined"],
        compute=sum(slowest.values()),
    )

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
        train: Seconds from asking the sites to train until their updates were combined; with the evaluation of the
            model before where both travel in one message.
        evaluate: Seconds from there until the sites' evaluation was there; 0 where it travels with the next round.
        compute: Seconds of the slowest site's own training and of the slowest site's own evaluation together.
        combine: Seconds of the coordinator's own, from the last answer until the updates were combined.
    """

    train: float
    evaluate: float
    compute: float
    combine: float


def moments(folder: Path) -> list[tuple[float, dict[str, Any]]]:
    """Return each event of a run with its moment in seconds since the epoch."""
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    return [(datetime.fromisoformat(event["time"]).timestamp(), event) for event in events]


def round_times(folder: Path) -> list[RoundTimes]:
    """Return the times of each round of a run that evaluates after every round, but for the first."""
    happened = moments(folder)
    rounds = sorted({event["round"] for _, event in happened if event["kind"] == "RoundCombined"})
    return [_times(happened, number) for number in rounds[1:]]


def _times(happened: list[tuple[float, dict[str, Any]]], number: int) -> RoundTimes:
    at = {(event["kind"], event.get("round")): moment for moment, event in happened}  # the last of each kind
    asked, combined = at["RoundStarted", number], at["RoundCombined", number]
    is_apart = at["ModelEvaluated", number] < at.get(("RoundStarted", number + 1), float("inf"))
    evaluated = number if is_apart else number - 1
    answers = [moment for moment, event in happened if event["kind"].startswith("Site") and asked < moment <= combined]
    return RoundTimes(
        train=combined - asked,
        evaluate=at["ModelEvaluated", number] - combined if is_apart else 0.0,
        compute=_slowest(happened, "SiteTrained", number) + _slowest(happened, "SiteEvaluated", evaluated),
        combine=combined - max(answers),
    )


def _slowest(happened: list[tuple[float, dict[str, Any]]], kind: str, number: int) -> float:
    return max(float(event["seconds"]) for _, event in happened if event["kind"] == kind and event["round"] == number)

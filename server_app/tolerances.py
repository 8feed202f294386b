"""What lies beyond the study's limits for certain: pure, over the figures of one evaluation."""

from collections.abc import Iterator, Mapping, Sequence

from fedfm.config.study import Fairness
from fedfm.errors import EngineError
from fedfm.metrics.performance import Estimate
from server_app.evaluation import Evaluation
from server_app.report.judgements import ToleranceExceeded

WORST_SITE = "worst_site"
"""The limit on the mean of the sites' accuracies minus the worst of them."""


def exceeded(
    fairness: Fairness,
    gaps: Mapping[str, Mapping[str, Estimate | None]],
    shortfall: Estimate | None,
    *,
    number: int,
) -> list[ToleranceExceeded]:
    """Return the differences that are beyond their limits, judged by the lower ends of their intervals.

    A difference that is not known, because a group is too small or a site withholds, is beyond no limit.

    Args:
        fairness: Limits, by the name of a gap or ``worst_site``, and what happens beyond them.
        gaps: Attribute to name of a gap to the difference between its groups, over all sites.
        shortfall: The mean of the sites' accuracies minus the worst.
        number: The round.
    """
    limits, action = fairness.limits, fairness.action
    found = [*_by_attribute(limits, gaps), ("", WORST_SITE, shortfall)]
    return [
        ToleranceExceeded(number, what, attribute, estimate, limits[what], action)
        for attribute, what, estimate in found
        if what in limits and estimate is not None and estimate.low > limits[what]
    ]


def judge(fairness: Fairness, evaluation: Evaluation, *, number: int) -> list[ToleranceExceeded]:
    """Return what an evaluation shows to be beyond its limit."""
    differences = {
        attribute: {name: None if gap is None else gap.difference for name, gap in gaps.items()}
        for attribute, gaps in evaluation.gaps.items()
    }
    accuracy = evaluation.spreads.get("accuracy")
    return exceeded(fairness, differences, None if accuracy is None else accuracy.shortfall, number=number)


def stop_if_asked(found: Sequence[ToleranceExceeded]) -> None:
    """End the run where something is beyond a limit and the study says that this ends it.

    Raises:
        EngineError: Names the first, and how many more there are.
    """
    if not found or found[0].action != "stop":
        return
    first, others = found[0], len(found) - 1
    said = f"{first.estimate.value:.3f} ({first.estimate.low:.3f} to {first.estimate.high:.3f})"
    of = f" of {first.attribute}" if first.attribute else ""
    raise EngineError(
        "ROUND-E023",
        f"a difference beyond its limit after round {first.round}",
        where=f"fairness.limits.{first.what}{of}",
        found=f"{said}, and {others} more" if others else said,
        allowed=f"at most {first.limit:g}, judged by the lower end of the interval",
        fix="the checkpoint of this round is kept; look at the report, then change reweighting, weighting or the limit",
    )


def _by_attribute(
    limits: Mapping[str, float], gaps: Mapping[str, Mapping[str, Estimate | None]]
) -> Iterator[tuple[str, str, Estimate | None]]:
    for attribute in sorted(gaps):
        for what in limits:
            yield attribute, what, gaps[attribute].get(what)

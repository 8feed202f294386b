"""A run's events gathered by site and round: pure, and all that verdict, page and metrics read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

from fedfm.metrics.performance import Performance
from fedfm.wire import PrivacySpent
from server_app.report import events, explanations, judgements

EVERYONE = "all sites"
"""The name that all sites together bear beside the sites' own."""


@dataclass(frozen=True)
class SiteSummary:
    """What one site did.

    Attributes:
        site: Its name.
        declared_patients: Public cohort size; None where it never took part.
        rounds: Rounds whose global model holds its update.
        left_out: Why it was left out, in order.
        performance: Round to its figures.
        privacy: The latest statement of what has been spent; None where it never took part.
        train_seconds: Wall time of each round's training.
        evaluate_seconds: Wall time of each evaluation.
        update_bytes: Bytes of arrays sent in all rounds together.
    """

    site: str
    declared_patients: int | None
    rounds: tuple[int, ...]
    left_out: tuple[events.SiteLeftOut, ...]
    performance: Mapping[int, Performance]
    privacy: PrivacySpent | None
    train_seconds: tuple[float, ...]
    evaluate_seconds: tuple[float, ...]
    update_bytes: int


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        started: The first event; None where the run never got that far.
        ended: The last event; None where the run was killed, or still runs.
        sites: Every site that was heard of, by name.
        combined: Rounds that made a new global model, in order.
        performance: Round to the figures of all sites together.
        reasons: All that is known of the models' reasons, in the order of the run.
        statistics: What the model's input is standardised by; None where nothing was pooled.
        groups: The latest figures by group.
        gaps: The latest gaps between groups.
        compared: Each comparison of the sites, in order.
        gains: The gains over training alone; None where nobody trained alone.
        losses: Each measurement of the audit patients' loss, in order.
        request_bytes: Bytes of arrays sent to the sites in all rounds together.
        contributions: What each site's updates have brought, round by round.
        exceeded: Differences beyond the study's limits.
        chosen: Which round's model is the result; None where it is the last round's without a choice.
        resumed: Each time that the run was interrupted and went on.
        quarantined: Sites that were no longer asked.
    """

    started: events.RunStarted | None
    ended: events.RunEnded | None
    sites: tuple[SiteSummary, ...]
    combined: tuple[events.RoundCombined, ...]
    performance: Mapping[int, Performance]
    reasons: tuple[explanations.Explained, ...]
    statistics: events.StatisticsPooled | None
    groups: events.GroupsEvaluated | None
    gaps: events.GapsEvaluated | None
    compared: tuple[events.SitesCompared, ...]
    gains: events.GainsMeasured | None
    losses: tuple[events.LossMeasured, ...]
    request_bytes: int
    contributions: tuple[judgements.ContributionMeasured, ...] = ()
    exceeded: tuple[judgements.ToleranceExceeded, ...] = ()
    chosen: judgements.FinalChosen | None = None
    resumed: tuple[events.RunResumed, ...] = ()
    quarantined: tuple[events.SiteQuarantined, ...] = ()

    def setting(self, *path: str) -> object:
        """Return a value of the resolved study, for example ``setting("privacy", "epsilon")``; None if unknown."""
        value: object = self.started.study if self.started else None
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return value


def summarise(happened: Iterable[events.Event]) -> Summary:
    """Gather events by site and round."""
    listed = list(happened)
    named = [event for event in listed if isinstance(event, _OF_SITE)]
    asked = [event for event in listed if isinstance(event, events.RoundStarted)]
    grouped = [event for event in listed if isinstance(event, events.GroupsEvaluated)]
    apart = [event for event in listed if isinstance(event, events.GapsEvaluated)]
    gained = [event for event in listed if isinstance(event, events.GainsMeasured)]
    combined = tuple(event for event in listed if isinstance(event, events.RoundCombined))
    return Summary(
        started=next((event for event in listed if isinstance(event, events.RunStarted)), None),
        ended=next((event for event in listed if isinstance(event, events.RunEnded)), None),
        sites=tuple(_site(name, named, combined) for name in sorted({event.site for event in named})),
        combined=combined,
        performance={event.round: event.performance for event in listed if isinstance(event, events.ModelEvaluated)},
        reasons=tuple(event for event in listed if isinstance(event, explanations.Explained)),
        statistics=next((event for event in listed if isinstance(event, events.StatisticsPooled)), None),
        groups=grouped[-1] if grouped else None,
        gaps=apart[-1] if apart else None,
        compared=tuple(event for event in listed if isinstance(event, events.SitesCompared)),
        gains=gained[-1] if gained else None,
        losses=tuple(event for event in listed if isinstance(event, events.LossMeasured)),
        request_bytes=sum(event.request_bytes * len(event.sites) for event in asked),
        contributions=tuple(event for event in listed if isinstance(event, judgements.ContributionMeasured)),
        exceeded=tuple(event for event in listed if isinstance(event, judgements.ToleranceExceeded)),
        chosen=next((event for event in listed if isinstance(event, judgements.FinalChosen)), None),
        resumed=tuple(event for event in listed if isinstance(event, events.RunResumed)),
        quarantined=tuple(event for event in listed if isinstance(event, events.SiteQuarantined)),
    )


_OfSite = events.SiteJoined | events.SiteLeftOut | events.SiteSummarised | events.SiteTrained | events.SiteEvaluated
_OF_SITE = get_args(_OfSite)


def _site(name: str, named: list[_OfSite], combined: tuple[events.RoundCombined, ...]) -> SiteSummary:
    mine = [event for event in named if event.site == name]
    joined = [event for event in mine if isinstance(event, events.SiteJoined)]
    trained = [event for event in mine if isinstance(event, events.SiteTrained)]
    evaluated = [event for event in mine if isinstance(event, events.SiteEvaluated)]
    told = [event.privacy for event in mine if not isinstance(event, events.SiteLeftOut)]
    return SiteSummary(
        site=name,
        declared_patients=joined[-1].declared_patients if joined else None,
        rounds=tuple(event.round for event in combined if event.weights.get(name, 0.0)),
        left_out=tuple(event for event in mine if isinstance(event, events.SiteLeftOut)),
        performance={event.round: event.performance for event in evaluated if event.performance is not None},
        privacy=told[-1] if told else None,
        train_seconds=tuple(event.seconds for event in trained),
        evaluate_seconds=tuple(event.seconds for event in evaluated),
        update_bytes=sum(event.update_bytes for event in trained),
    )

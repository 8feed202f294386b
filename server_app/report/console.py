"""One plain line for each event, for people who watch a run."""

import logging
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fedfm.metrics.gains import Tally
from fedfm.metrics.gaps import Gap
from fedfm.metrics.groups import GroupFigures
from fedfm.metrics.performance import Estimate, Performance
from fedfm.wire import PrivacySpent
from server_app.report import events, judgements
from server_app.report.explained_lines import explained_line

_LOGGER = logging.getLogger("server_app")


def tell(event: events.Event) -> None:
    """Log the event's line; what went wrong as a warning."""
    is_bad = isinstance(event, events.SiteLeftOut | events.SiteQuarantined | judgements.ToleranceExceeded)
    is_bad |= isinstance(event, events.RunEnded) and event.status == "failed"
    _LOGGER.log(logging.WARNING if is_bad else logging.INFO, "%s", line(event))


@contextmanager
def shown() -> Iterator[None]:
    """Show this logger's lines on standard output, which Flower carries into ``flwr log``."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    propagates, _LOGGER.propagate = _LOGGER.propagate, False  # a library that sets up logging must not show it twice
    _LOGGER.addHandler(handler)
    _LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        _LOGGER.removeHandler(handler)
        _LOGGER.propagate = propagates


def line(event: events.Event) -> str:  # noqa: C901, PLR0911, PLR0912 - one sentence for each kind of event
    """Return the event as one sentence."""
    match event:
        case events.RunStarted():
            rounds, count = event.study.get("rounds"), event.parameters
            return f"Run {event.run}: {rounds} rounds, {count:,} trained parameters"
        case events.RunResumed():
            after = f"after round {event.round} ({event.phase})" if event.round else "from the start"
            return f"Resumed {after}; before: {'; '.join([event.ended, *event.damaged])}"
        case events.SiteJoined():
            return f"{event.site} takes part: {event.declared_patients} patients (declared), {event.device}"
        case events.SiteLeftOut():
            return f"{event.site} left out of {event.phase}{_in_round(event.round)}: {event.code} {event.reason}"
        case events.SiteQuarantined():
            rounds = ", ".join(map(str, event.rounds))
            return f"{event.site} is no longer asked: unusable answers in rounds {rounds}, the last {event.code}"
        case events.SiteSummarised():
            return f"  {event.site}: sums over training patients in {event.seconds:.1f} s, {_spent(event.privacy)}"
        case events.StatisticsPooled():
            shares = ", ".join(f"{label} {_noised(share)}" for label, share in event.prevalence.items())
            return f"Statistics of {len(event.sites)} sites pooled; labels: {shares}"
        case events.RoundStarted():
            return f"Round {event.round}: training at {', '.join(event.sites)}"
        case events.SiteTrained():
            seconds = f"{event.seconds:.1f} s"
            return f"  {event.site}: trained in {seconds}, {_spent(event.privacy)}"
        case events.RoundCombined():
            sites = sum(weight != 0 for weight in event.weights.values())
            return f"Round {event.round}: averaged {sites} sites after {event.seconds:.1f} s"
        case events.SiteEvaluated():
            return f"  {event.site}: {_figures(event.performance)}"
        case events.ModelEvaluated():
            return f"Round {event.round}, {len(event.sites)} sites together: {_figures(event.performance)}"
        case events.GroupsEvaluated():
            return f"Round {event.round}, accuracy by group: {_by_group(event.groups)}"
        case events.GapsEvaluated():
            return f"Round {event.round}, gaps between groups: {_gaps(event.pooled)}"
        case events.SitesCompared():
            said = [f"{name} worst {_shown(of.worst)} at {of.worst_site}" for name, of in event.figures.items()]
            return f"Round {event.round}, between sites: {', '.join(said)}"
        case events.GainsMeasured():
            return f"Round {event.round}, against training alone: {_gained(event.tallies)}"
        case events.LossMeasured():
            lost = "too few patients for the noise" if event.together is None else _shown(event.together)
            return f"Round {event.round}, loss on audit patients: {lost}"
        case judgements.ContributionMeasured():
            values = ", ".join(f"{site} {value:+.4f}" for site, value in event.values.items())
            return f"Round {event.round}, contributions in nats: {values}; together {event.total:+.4f}"
        case judgements.ToleranceExceeded():
            of = f" of {event.attribute}" if event.attribute else ""
            return f"Round {event.round}: {event.what}{of} {_shown(event.estimate)} is beyond its limit {event.limit:g}"
        case judgements.FinalChosen():
            return f"The result is the model of round {event.round}: {'; '.join(event.reasons)}"
        case events.RunEnded():
            return f"Run {event.status} after {event.seconds:.1f} s. {event.code} {event.reason}".rstrip()
        case _:
            return explained_line(event)


def _in_round(number: int) -> str:
    return f" in round {number}" if number else ""


def _spent(privacy: PrivacySpent) -> str:
    if privacy.unit == "none" or math.isinf(privacy.run):
        return "NO PRIVACY GUARANTEE"
    return f"ε {privacy.run:.2f} of {privacy.planned:.2f} planned"


def _figures(performance: Performance | None) -> str:
    if performance is None:
        return "withholds its counts"
    named = {
        "accuracy": performance.accuracy,
        "most frequent class": performance.baseline,
        "AUROC": performance.auroc,
        "sensitivity": performance.sensitivity,
    }
    known = [f"{name} {_shown(figure)}" for name, figure in named.items() if figure is not None]
    return ", ".join(known) or "too few patients for the noise on the counts; no figure can be given"


def _noised(figure: events.Noised) -> str:
    return f"{figure.value:.2f} ± {figure.sd:.2f}"


def _by_group(groups: Mapping[str, GroupFigures | None]) -> str:
    known = {key: figures.accuracy for key, figures in groups.items() if figures is not None}
    said = [f"{key} {_shown(accuracy)}" for key, accuracy in known.items() if accuracy is not None]
    silent = len(groups) - len(said)
    return ", ".join([*said, f"{silent} with too few patients"] if silent else said)


def _gaps(pooled: Mapping[str, Mapping[str, Gap | None]]) -> str:
    known = [
        f"{attribute} {name.replace('_', ' ')} {_shown(gap.difference)}"
        for attribute, gaps in pooled.items()
        for name, gap in gaps.items()
        if gap is not None
    ]
    return ", ".join(known) or "too few patients for any"


def _gained(tallies: Mapping[str, Tally]) -> str:
    return ", ".join(
        f"{name} gained at {of.gained} of {of.gained + of.lost + of.unclear + of.untold} sites, lost at {of.lost}"
        for name, of in tallies.items()
    )


def _shown(figure: Estimate) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"

"""The events of one evaluation of the global model."""

from collections.abc import Iterator, Mapping, Sequence

from fedfm.metrics.gains import tally
from fedfm.wire import EvaluateReply
from server_app.evaluation import Evaluation
from server_app.reasons import explained
from server_app.report import events, explanations


def told(
    number: int, judged: Evaluation, answers: Mapping[str, EvaluateReply], *, seconds: float, vocabulary: Sequence[str]
) -> Iterator[events.Event]:
    """Return what an evaluation has found, as events in the order of the report.

    Args:
        number: The round.
        judged: What it has found.
        answers: Site to its screened answer.
        seconds: Wall time since the sites were asked.
        vocabulary: Terms of which the answers tell credits.
    """
    yield from _performance(number, judged, answers, seconds)
    if judged.means:
        yield explanations.ModelExplained(number, judged.documents, dict(judged.means))
    yield from explained.told(number, [answers[site] for site in sorted(answers)], vocabulary)
    if judged.groups:
        yield events.GroupsEvaluated(number, dict(judged.groups))
    if judged.gaps:
        yield _gaps(number, judged)
    if judged.losses:
        yield events.LossMeasured(number, dict(judged.losses), judged.loss)
    if judged.gains:
        yield events.GainsMeasured(number, {site: dict(g) for site, g in judged.gains.items()}, tally(judged.gains))


def _performance(
    number: int, judged: Evaluation, answers: Mapping[str, EvaluateReply], seconds: float
) -> Iterator[events.Event]:
    for site, figures in judged.sites.items():
        yield events.SiteEvaluated(site, number, answers[site].seconds, figures, answers[site].privacy)
    if judged.together is not None:
        yield events.ModelEvaluated(number, tuple(judged.sites), seconds, judged.together)
    if judged.spreads:
        yield events.SitesCompared(number, dict(judged.spreads))


def _gaps(number: int, judged: Evaluation) -> events.GapsEvaluated:
    return events.GapsEvaluated(
        round=number,
        pooled={attribute: dict(gaps) for attribute, gaps in judged.gaps.items()},
        sites={site: {name: dict(gaps) for name, gaps in of.items()} for site, of in judged.site_gaps.items()},
        local={attribute: dict(gaps) for attribute, gaps in judged.local_gaps.items()},
    )

"""What the console says of explanations: one sentence for each event."""

from collections.abc import Mapping

from fedfm.metrics.performance import Estimate
from server_app.report import explanations


def explained_line(event: explanations.Explained) -> str:  # noqa: C901, PLR0911 - one sentence for each kind of event
    """Return the event as one sentence."""
    match event:
        case explanations.ModelExplained():
            return f"Explanations over {event.documents:.0f} documents: {_means(event.means)}"
        case explanations.SiteExplained():
            return f"  {event.site}: explanations over {event.documents:.0f} documents: {_means(event.means)}"
        case explanations.SiteChecked():
            verdict = f"does not pass {', '.join(event.failed)}" if event.failed else "passes every gate"
            return f"  {event.site}: its own check of round {event.round} {verdict}"
        case explanations.TermsCredited():
            where = "public texts" if event.source == "reference" else event.site or "all sites"
            return f"Round {event.round}, {where}: credits of {len(event.terms)} terms"
        case explanations.ReferenceExplained():
            whose = f"with the update of {event.site} alone" if event.site else "the global model"
            return f"Round {event.round}, on public texts, {whose}: {_means(event.means)}"
        case explanations.SitesAgree():
            return f"Round {event.round}: agreement of {len(event.pairs)} pairs of sites ({event.source})"
        case explanations.GateJudged():
            verdict = "cannot be judged" if event.passed is None else "holds" if event.passed else "DOES NOT HOLD"
            return f"Round {event.round}, gate {event.gate}{f' of {event.subject}' if event.subject else ''} {verdict}"
        case explanations.ReasonsLost():
            return f"Round {event.round} is marked, aggregation has lost reasons: {', '.join(event.gates)}"


def _means(means: Mapping[str, Estimate]) -> str:
    return ", ".join(f"{name} {of.value:.3f} ({of.low:.3f} to {of.high:.3f})" for name, of in sorted(means.items()))

"""What somebody must know of the models' reasons, a sentence each: for the verdict and for the section on reasons."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

from server_app.report import explanations
from server_app.report.summary import Summary

_Event = TypeVar("_Event")

_SHORTCUTS = ("shortcut", "swap")


def of_kind(summary: Summary, kind: type[_Event]) -> list[_Event]:
    """Return the run's events of one kind, in their order."""
    return [event for event in summary.reasons if isinstance(event, kind)]


def latest_checks(summary: Summary) -> dict[str, explanations.SiteChecked]:
    """Return site to what its last check that left has said."""
    return {event.site: event for event in of_kind(summary, explanations.SiteChecked)}


def latest_gates(summary: Summary) -> list[explanations.GateJudged]:
    """Return the coordinator's judgements of the last round that has any."""
    judged = of_kind(summary, explanations.GateJudged)
    last = max((gate.round for gate in judged), default=0)
    return [gate for gate in judged if gate.round == last]


def shortcuts_found(summary: Summary) -> list[str]:
    """Return which hospital teaches the model to lean on what must not decide, by name and list; once for each."""
    by_site: dict[tuple[str, str], dict[str, list[str]]] = {}
    for site, name, where, measure in _shortcuts(summary):
        by_site.setdefault((site, name), {}).setdefault(where, []).append(measure)
    return [
        f"Shortcut: what {site or 'the federation'} taught leans on \N{LEFT DOUBLE QUOTATION MARK}{name}"
        f"\N{RIGHT DOUBLE QUOTATION MARK}, which must not decide ({_seen(found)})."
        for (site, name), found in sorted(by_site.items())
    ]


def other_findings(summary: Summary) -> list[str]:
    """Return every other gate that has failed in the last round that it was judged in."""
    checked = [
        f"At {event.site}, the model of round {event.round} {_failure(gate)}."
        for event in latest_checks(summary).values()
        for gate in event.failed
        if _kind(gate) not in _SHORTCUTS
    ]
    judged = [
        f"{gate.subject or 'The global model'}: {gate.reason} (round {gate.round})."
        for gate in latest_gates(summary)
        if gate.passed is False and _kind(gate.gate) not in _SHORTCUTS
    ]
    return [*checked, *judged]


def _seen(found: Mapping[str, list[str]]) -> str:
    """Return where a shortcut was seen, and by what there."""
    return "; ".join(f"{where}, {' and '.join(dict.fromkeys(measures))}" for where, measures in found.items())


def _shortcuts(summary: Summary) -> Iterator[tuple[str, str, str, str]]:
    """Return site, list, where it was seen and by what."""
    for site, event in latest_checks(summary).items():
        for gate in event.failed:
            if _kind(gate) in _SHORTCUTS:
                yield site, gate.partition(":")[2], f"its own check of round {event.round}", _measure(gate)
    for found in latest_gates(summary):
        if found.passed is False and _kind(found.gate) in _SHORTCUTS:
            where = f"on public texts after round {found.round}"
            yield found.subject, found.gate.partition(":")[2], where, _measure(found.gate)


def _kind(gate: str) -> str:
    return gate.partition(":")[0]


def _measure(gate: str) -> str:
    return "by credit" if _kind(gate) == "shortcut" else "by exchanging it"


def _failure(gate: str) -> str:
    return {
        "faithfulness": "credits words that matter no more than random ones",
        "completeness": "has credits that do not add up",
        "randomisation": "has credits that do not depend on what it learned",
    }.get(gate, f"does not pass the gate {gate}")

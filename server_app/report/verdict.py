"""One run, one verdict: a pure function of what happened, stated before any figure."""

import math
from dataclasses import dataclass

from fedfm.metrics.performance import Performance
from server_app.report.events import RunResumed
from server_app.report.explanations import ReasonsLost
from server_app.report.findings import of_kind, shortcuts_found
from server_app.report.hospitals import joined, unused
from server_app.report.judgements import ToleranceExceeded
from server_app.report.summary import SiteSummary, Summary


@dataclass(frozen=True)
class Verdict:
    """What a reader must know first.

    Attributes:
        status: ``completed`` or ``failed``.
        headline: One sentence on the run.
        privacy: One sentence on what protects the patients.
        gain: One sentence on how many hospitals are better off than alone; empty where nobody trained alone.
        is_private: Whether every release of the run carries a differential privacy guarantee.
        reasons: What qualifies the headline, one sentence each; may be empty.
    """

    status: str
    headline: str
    privacy: str
    is_private: bool
    reasons: tuple[str, ...]
    gain: str = ""


def verdict(summary: Summary) -> Verdict:
    """Judge a run. A run of which no site contributed, or that did not say how it ended, has failed."""
    failure = _failure(summary)
    is_private, privacy = _privacy(summary)
    return Verdict(
        status="failed" if failure else "completed",
        headline=f"Failed: {failure}" if failure else f"Completed: {_participation(summary)}",
        privacy=privacy,
        is_private=is_private,
        reasons=tuple(_reasons(summary)),
        gain="" if failure else joined(summary),
    )


def _failure(summary: Summary) -> str:
    """Return why the run failed, or an empty text."""
    if summary.ended is None:
        return "the run did not say how it ended; it was stopped, or it still runs."
    if summary.ended.status != "completed":
        return f"{_what(summary.ended.reason)} ({summary.ended.code})."
    if not any(site.rounds for site in summary.sites):
        return "no site contributed to the model."
    return ""


def _participation(summary: Summary) -> str:
    rounds = len(summary.combined)
    contributed = [site for site in summary.sites if site.rounds]
    faithful = [site for site in contributed if len(site.rounds) == rounds]
    every = "all" if rounds > 1 else "the"
    text = f"{len(faithful)} of {len(summary.sites)} hospitals contributed to {every} {_counted(rounds, 'round')}"
    others = len(contributed) - len(faithful)
    return f"{text}, {others} to some of them." if others else f"{text}."


def _privacy(summary: Summary) -> tuple[bool, str]:
    """Return whether everything that left the sites was protected, and the sentence that says so."""
    told = [site.privacy for site in summary.sites if site.privacy is not None]
    if summary.setting("privacy", "mechanism") == "none" or any(privacy.unit == "none" for privacy in told):
        return False, "NO PRIVACY GUARANTEE: the study trained without differential privacy."
    if summary.setting("evaluation", "release") == "exact":
        return False, "NO PRIVACY GUARANTEE for test patients: exact counts left the hospitals."
    if not told or summary.started is None:
        return True, "Nothing that was computed from patients left a hospital."
    spent = max(privacy.run for privacy in told)
    if math.isinf(spent):
        return False, "NO PRIVACY GUARANTEE: a site reports an unlimited epsilon."
    budget, delta = summary.setting("privacy", "epsilon"), max(privacy.delta for privacy in told)
    unit = " and ".join(sorted({privacy.unit for privacy in told}))
    return True, f"Privacy: ON ({unit}-level): ε {spent:.2f} of {budget} spent for training, δ at most {delta:.2g}."


def _reasons(summary: Summary) -> list[str]:
    reasons = [_resumed(event) for event in summary.resumed]
    reasons += [
        f"{event.site} was no longer asked from round {event.round} on: its answers could not be used ({event.code})."
        for event in summary.quarantined
    ]
    reasons += [text for site in summary.sites for text in _absences(site, len(summary.combined))]
    reasons += _not_used(summary)
    reasons += [_beyond(event) for event in summary.exceeded if event.round == summary.exceeded[-1].round]
    reasons += _lost(summary)
    reasons += shortcuts_found(summary)
    if summary.chosen is not None:
        reasons.append(f"The result is the model of round {summary.chosen.round}: {summary.chosen.reasons[-1]}.")
    if summary.combined and not summary.performance:
        reasons.append("No site has evaluated the model: nothing is known about how good it is.")
    if summary.performance:
        last = summary.performance[max(summary.performance)]
        if not _is_better_than_baseline(last):
            reasons.append(beside_baseline(last))
    return reasons


def _resumed(event: RunResumed) -> str:
    where = f"after round {event.round}" if event.round else "at the start"
    damaged = f" A checkpoint was damaged: {'; '.join(event.damaged)}." if event.damaged else ""
    return f"The run was interrupted ({event.ended.partition(' — ')[0]}) and resumed {where}.{damaged}"


def _lost(summary: Summary) -> list[str]:
    """Say in which rounds reasons were lost on public examples, if any, and whether the result is of one of them."""
    rounds = [event.round for event in of_kind(summary, ReasonsLost)]
    if not rounds:
        return []
    final = summary.chosen.round if summary.chosen is not None else max((e.round for e in summary.combined), default=0)
    named = f"round{'s' if len(rounds) > 1 else ''} {', '.join(map(str, rounds))}"
    whose = "the result is the model of one of them" if final in rounds else "the result is the model of another round"
    return [f"Aggregation has lost reasons that earlier models had, in {named}; {whose}."]


def beside_baseline(performance: Performance) -> str:
    """Say what accuracy is worth beside always answering the most frequent class; empty where no one can say."""
    accuracy, baseline = performance.accuracy, performance.baseline
    if accuracy is None or baseline is None:
        return ""
    always = f"Always answering the most frequent class would give an accuracy of {baseline.value:.2f}"
    ours = f"the model's is {accuracy.value:.2f} ({accuracy.low:.2f} to {accuracy.high:.2f})"
    if accuracy.high < baseline.value:
        return f"{always}: {ours}, which is worse."
    if accuracy.low <= baseline.value:
        return f"{always}: {ours}, which cannot be told apart from it."
    return f"{always}: {ours}, which is better."


def _is_better_than_baseline(performance: Performance) -> bool:
    accuracy, baseline = performance.accuracy, performance.baseline
    return accuracy is None or baseline is None or accuracy.low > baseline.value


def _beyond(event: ToleranceExceeded) -> str:
    found = f"{event.estimate.value:.2f} ({event.estimate.low:.2f} to {event.estimate.high:.2f})"
    if not event.attribute:
        return f"The worst hospital is {found} below the mean, beyond the limit of {event.limit:g}."
    what, attribute = event.what.replace("_", " "), event.attribute.replace("_", " ").replace("*", " and ")
    return f"The {what} gap by {attribute} is {found}, beyond the limit of {event.limit:g}."


def _absences(site: SiteSummary, rounds: int) -> list[str]:
    """Say once for each cause when a site was left out, and why."""
    by_cause: dict[tuple[str, str, str], list[int]] = {}
    for event in site.left_out:
        by_cause.setdefault((event.phase, event.code, event.reason), []).append(event.round)
    share = f"contributed to {len(site.rounds)} of {_counted(rounds, 'round')}" if site.rounds else "did not contribute"
    return [
        f"{site.site} {share}; left out {_when(phase, numbers)}: {_what(reason)} ({code})."
        for (phase, code, reason), numbers in by_cause.items()
    ]


def _not_used(summary: Summary) -> list[str]:
    """Say of which sites an update came and was left aside; the report's table says in which rounds."""
    aside = [
        f"{site} in {len(numbers)} of {_counted(len(summary.combined), 'round')}"
        for site, numbers in unused(summary).items()
    ]
    rule = summary.setting("combining", "rule")
    return [f"Updates that came and were not used (combining={rule}): {'; '.join(aside)}."] if aside else []


def _what(reason: str) -> str:
    """Return the first clause of an error's text; the report's table of sites holds all of it."""
    return reason.partition(" — ")[0]


def _when(phase: str, numbers: list[int]) -> str:
    if phase == "start":
        return "at the start"
    if phase == "statistics":
        return "of the statistics before round 1"
    return f"of {phase} in {'round' if len(numbers) == 1 else 'rounds'} {', '.join(map(str, numbers))}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

"""The report on the words that decide: only those of which it can be told what they speak for."""

from collections.abc import Iterator, Mapping

from fedfm.metrics.performance import LEAST_PATIENTS, Estimate
from server_app.report.explanations import Credit, TermsCredited
from server_app.report.findings import of_kind
from server_app.report.markup import Element, element, table
from server_app.report.reason_charts import opposed
from server_app.report.summary import Summary

Credits = Mapping[str, Credit]

_ABOUT = (
    "Mean credit of each term of the study's public vocabulary over documents; all of a document's credit is 1. "
    "Other words of notes are never counted. Terms are listed of which it is certain what they speak for: the "
    "95\N{NO-BREAK SPACE}% interval, the line at a bar's end, does not hold 0. That the model credits a word does not "
    "make it a good reason."
)
_WHERE = {"reference": "on public texts", "audit": "on audit patients of all hospitals"}
_LEFT_OUT = {
    "reference": f"Held by too few documents to say (fewer than {LEAST_PATIENTS})",
    "audit": f"Held by too few documents to say (fewer than {LEAST_PATIENTS}), or drowned in noise",
}
_MOST = 12


def terms(summary: Summary) -> Iterator[Element]:
    """Return the terms that the global model credits most, on public texts and on audit patients."""
    for source, where in _WHERE.items():
        rounds = {
            event.round: event.terms
            for event in of_kind(summary, TermsCredited)
            if event.source == source and not event.site
        }
        if not rounds:
            continue
        first, last = min(rounds), max(rounds)
        yield element("h3", f"Words that decide, {where}")
        yield element("p", _ABOUT, class_="soft")
        yield from _listed(rounds[last], last, summary)
        yield from _unlisted(rounds[last], summary, source)
        if first != last:
            yield from _moved(rounds[first], rounds[last], first, last)


def _listed(credits_: Credits, number: int, summary: Summary) -> Iterator[Element]:
    known = [(term, of.credit) for term, of in credits_.items() if _is_certain(of)]
    if not known:
        yield element("p", f"After round {number} no term is known to be credited.")
        return
    most = sorted(known, key=lambda one: -abs(one[1].value))[:_MOST]
    left, right = _sides(summary)
    title = f"Most credited terms after round {number}"
    yield opposed(title, sorted(most, key=lambda one: -one[1].value), left=left, right=right)
    if len(known) > len(most):
        yield element("p", f"{len(known) - len(most)} more terms are credited with less.", class_="soft")


def _unlisted(credits_: Credits, summary: Summary, source: str) -> Iterator[Element]:
    """Say which terms are not listed, and why, so that their absence is not taken for no credit."""
    asked = summary.setting("explainability", "vocabulary")
    vocabulary = asked if isinstance(asked, list) else []
    untold = {
        "Cannot be told from no credit": [term for term, of in credits_.items() if not _is_certain(of)],
        _LEFT_OUT[source]: [term for term in vocabulary if term not in credits_],
    }
    for why, listed in untold.items():
        if listed:
            yield element("p", f"{why}: {'; '.join(listed)}.", class_="soft")  # a term may hold a comma


def _moved(before: Credits, now: Credits, first: int, last: int) -> Iterator[Element]:
    """Compare two rounds by terms whose intervals lie apart; of the same documents, that is stricter than need be."""
    both = {term: (_size(before[term]), _size(now[term])) for term in before.keys() & now.keys()}
    changes = {
        term: new.value - old.value for term, (old, new) in both.items() if new.low > old.high or new.high < old.low
    }
    ranked = sorted(changes, key=lambda term: (-changes[term], term))
    rows = []
    for title, wanted in (
        ("Gained weight", [term for term in ranked if changes[term] > 0]),
        ("Lost weight", [term for term in reversed(ranked) if changes[term] < 0]),
    ):
        rows.append([title, "; ".join(f"{term} ({changes[term]:+.3f})" for term in wanted[:5]) or "none for certain"])
    certain = [term for term in both if _is_certain(before[term]) and _is_certain(now[term])]
    turned = sorted(term for term in certain if before[term].credit.value * now[term].credit.value < 0)
    if turned:
        rows.append(["Speaks for the other class now", "; ".join(turned)])
    yield table(f"From round {first} to round {last}, by the size of the credit.", ["", "Terms"], rows)


def _size(of: Credit) -> Estimate:
    """Return how much a term is credited, for whatever class."""
    ends = (abs(of.credit.low), abs(of.credit.high))
    return Estimate(abs(of.credit.value), min(ends) if _is_certain(of) else 0.0, max(ends))


def _is_certain(of: Credit) -> bool:
    return of.credit.low > 0 or of.credit.high < 0


def _sides(summary: Summary) -> tuple[str, str]:
    """Return what negative and positive credits speak for."""
    labels, positive = summary.setting("task", "labels"), summary.setting("task", "positive")
    if not isinstance(labels, list) or len(labels) != 2:
        return "against the predicted class", "for the predicted class"
    wanted = positive or labels[1]
    other = next((label for label in labels if label != wanted), "the other class")
    return f"for {other}", f"for {wanted}"

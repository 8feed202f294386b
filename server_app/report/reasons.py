"""The report on why the models decide as they do: whether reasons hold, where they are shortcuts, who shares them."""

from collections.abc import Iterator, Mapping

from fedfm.explanations import HEAD_MOST
from fedfm.metrics.performance import Estimate
from server_app.report import explanations
from server_app.report.charts import Series, curves, said
from server_app.report.findings import latest_checks, of_kind, other_findings, shortcuts_found
from server_app.report.markup import UNKNOWN, Element, element, table
from server_app.report.reason_charts import matrix
from server_app.report.reason_terms import terms
from server_app.report.summary import Summary

_ABOUT = (
    "A reason is faithful where taking out the words that the model credits changes its answer more than taking out "
    "words at random. Nothing of one patient's note leaves a hospital: hospitals tell sums with noise, and the rest is "
    "measured on public texts."
)
_ABOUT_OWN = (
    "What each hospital's own check said of the model that it was about to send. For lists of words that must not "
    "decide: how much more credit they hold than in the model that the hospital had received, and how much more its "
    "answers move when these phrases are exchanged, document by document. Above 0, the hospital's patients have taught "
    "it; what it had received already is not held against it."
)


def reasons(summary: Summary) -> Element | None:
    """Return the section on reasons; None where nothing was asked about them."""
    if not summary.reasons:
        return None
    return element(
        "section",
        element("h2", "Why the model decides as it does"),
        element("p", _ABOUT, class_="soft"),
        list(_findings(summary)),
        list(_faithful(summary)),
        list(_own_checks(summary)),
        list(_agreement(summary)),
        list(terms(summary)),
        list(_gates(summary)),
    )


def _findings(summary: Summary) -> Iterator[Element]:
    found = [*shortcuts_found(summary), *other_findings(summary)]
    if found:
        yield element("ul", [element("li", sentence) for sentence in found])
    elif any(isinstance(event, explanations.SiteChecked | explanations.GateJudged) for event in summary.reasons):
        yield element("p", "No gate on reasons that could be judged has failed in its last round.")


def _faithful(summary: Summary) -> Iterator[Element]:
    on_reference = [event for event in of_kind(summary, explanations.ReferenceExplained) if not event.site]
    on_audit = of_kind(summary, explanations.ModelExplained)
    for events, where in ((on_reference, "public texts"), (on_audit, "audit patients of all hospitals")):
        if not events:
            continue
        latest = events[-1]
        ours, chance = latest.means.get("comprehensiveness"), latest.means.get("random_order")
        if ours is None or chance is None:
            continue
        verb = "more than" if ours.low > chance.high else "it cannot be told whether more than"
        yield element("h3", f"Whether the reasons are faithful, on {where}")
        sentence = f"Removing the words that the model credits changes its score by {said(ours)}: {verb} "
        yield element("p", f"{sentence}{said(chance)} for words at random ({latest.documents:.0f} documents).")
        yield from _curves(events, where)
        yield from _sanity(latest.means.get("randomised_head"))


def _curves(
    events: list[explanations.ReferenceExplained] | list[explanations.ModelExplained], where: str
) -> Iterator[Element]:
    if len(events) < 2:
        return
    lines = [
        Series(title, {event.round: event.means[name] for event in events if name in event.means}, colour)
        for name, title, colour in (("comprehensiveness", "credited", None), ("random_order", "at random", 1))
    ]
    values = [point for line in lines for point in line.points.values()]
    span = (min(0.0, *(point.low for point in values)), max(0.2, *(point.high for point in values)))
    yield curves(f"Change of the score without words, on {where}", lines, rounds=events[-1].round, span=span)


def _sanity(found: Estimate | None) -> Iterator[Element]:
    if found is None:
        return
    holds = found.value < HEAD_MOST
    verdict = "they explain what was learned" if holds else "they explain the text, not what was learned"
    sentence = "With the last layer drawn anew, the credits of the same documents are alike by"
    yield element("p", f"{sentence} {said(found)} (rank correlation; limit {HEAD_MOST:g}): {verdict}.")


_RISES = {"mass_rise": "credit gained", "swap_rise": "answers move more"}


def _own_checks(summary: Summary) -> Iterator[Element]:
    checked = latest_checks(summary)
    if not checked:
        return
    lists = sorted({name for event in checked.values() for name in event.means if ":" in name})
    rises = [name for name in lists if name.startswith(("mass_rise:", "swap_rise:"))]
    head = ["Hospital", "Credited words", "Words at random"]
    head += [f"{name.partition(':')[2]}: {_RISES[name.partition(':')[0]]}" for name in rises]
    rows = []
    for site, event in sorted(checked.items()):
        row: list[Element | str] = [site, _cell(event.means, "comprehensiveness"), _cell(event.means, "random_order")]
        row += [_cell(event.means, name) for name in rises]
        rows.append([*row, ", ".join(event.failed) or "none", "half" if event.downweighted else "in full"])
    yield element("h3", "What each hospital's own check found")
    yield element("p", _ABOUT_OWN, class_="soft")
    yield table("Means over audit documents, with noise.", [*head, "Gates that failed", "Counts"], rows)


def _agreement(summary: Summary) -> Iterator[Element]:
    agreed = of_kind(summary, explanations.SitesAgree)
    for source, where in (
        ("reference", "with each hospital's update alone, on public texts"),
        ("audit", "on audit patients"),
    ):
        latest = next((event for event in reversed(agreed) if event.source == source and event.pairs), None)
        if latest is None or all(pair.rank_overlap is None for pair in latest.pairs):
            continue
        names = sorted({site for pair in latest.pairs for site in (pair.one, pair.other)})
        values = {
            order: pair.rank_overlap
            for pair in latest.pairs
            for order in ((pair.one, pair.other), (pair.other, pair.one))
        }
        title = f"Agreement between hospitals, {where}"
        yield element("h3", title)
        yield element(
            "p", f"How alike the most credited terms are after round {latest.round}; 1 is alike.", class_="soft"
        )
        yield matrix(title, names, values)


def _gates(summary: Summary) -> Iterator[Element]:
    judged = of_kind(summary, explanations.GateJudged)
    if not judged:
        return
    last = max(gate.round for gate in judged)
    rows: list[list[Element | str]] = [
        [
            gate.gate.replace("_", " ").replace(":", ": "),
            gate.subject or "global model",
            {True: "holds", False: "fails", None: "not judged"}[gate.passed],
            UNKNOWN if gate.estimate is None else said(gate.estimate),
            f"{gate.limit:.3g}",
            element("span", gate.reason),
        ]
        for gate in judged
        if gate.round == last
    ]
    yield element("h3", "What the coordinator judges")
    yield table(f"After round {last}, on public texts.", ["Gate", "Of", "Verdict", "Figure", "Limit", "Why"], rows)


def _cell(means: Mapping[str, Estimate], name: str) -> str:
    return said(means[name]) if name in means else UNKNOWN

"""The report on what each hospital's updates have brought."""

from itertools import accumulate

from fedfm.metrics.performance import Estimate
from server_app.report.charts import Series, curves
from server_app.report.markup import Element, element, table
from server_app.report.summary import Summary

_ABOUT = (
    "How much each hospital's updates have lowered the loss on the coordinator's public reference set, in nats, summed "
    "over rounds; below zero: they have raised it. A report, not a payment: updates carry noise, and what a hospital "
    "knows of patients who are rare in the reference set does not show there."
)
_METHODS = {"shapley": "Shapley values", "leave_one_out": "The loss without a hospital minus the loss with it"}


def contributions(summary: Summary) -> Element | None:
    """Return the section on contributions; None where none were measured."""
    if not summary.contributions:
        return None
    colours = {site.site: colour for colour, site in enumerate(summary.sites)}
    lines, rows = [], []
    for site, colour in colours.items():
        brought = {event.round: event.values[site] for event in summary.contributions if site in event.values}
        if brought:
            summed = dict(zip(brought, accumulate(brought.values()), strict=True))
            lines.append(Series(site, {n: Estimate(value, value, value) for n, value in summed.items()}, colour))
            rows.append([site, f"{summed[max(summed)]:+.4f}", str(len(brought))])
    rows.append(["all sites", f"{sum(event.total for event in summary.contributions):+.4f}", ""])
    method, rounds = summary.contributions[-1].method, summary.contributions[-1].round
    title = "What each hospital has brought"
    return element(
        "section",
        element("h2", title),
        element("p", _ABOUT, class_="soft"),
        curves(title, lines, rounds=rounds, span=_span(lines)) if rounds > 1 else None,
        table(f"{_METHODS.get(method, method)}, summed.", ["Hospital", "Nats", "Rounds"], rows),
    )


def _span(lines: list[Series]) -> tuple[float, float]:
    values = [point.value for line in lines for point in line.points.values()]
    low, high = min([0.0, *values]), max([0.0, *values])
    return (low, high) if low < high else (-0.1, 0.1)

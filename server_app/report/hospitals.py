"""The report on how unlike hospitals fare: who gains by joining, who fares worst, and how much each counted."""

from collections.abc import Iterator

from fedfm.metrics.between_sites import Spread
from fedfm.metrics.gains import Tally
from fedfm.metrics.performance import Estimate
from server_app.report.charts import Axis, Series, curves, forest, said
from server_app.report.markup import UNKNOWN, Element, element, table
from server_app.report.summary import Summary

_ABOUT_GAINS = (
    "The federated model's figure minus that of the same model trained at the hospital alone, on the same "
    "test patients. Right of zero: the hospital gains by joining. A whole interval (95 %, chance and noise) on "
    "one side decides."
)
_ABOUT_SPREAD = (
    "Each hospital counts once, whatever its size. Jain's index and Gini are taken of error or loss: 1 and 0 where all "
    "bear the same."
)
_ABOUT_WEIGHTS = "The share of each hospital's update in the global model, round by round."
_OF_COHORTS = ("cohort", "uniform")
_FALLS_BACK = "A hospital whose signal was missing counts with its cohort."
_WITHOUT_SIGNAL = {
    "fednova": "",
    "fedfv": "A hospital whose loss was missing is taken to have the mean loss of the others.",
}
"""Weighting rule to what a hospital counts whose signal was missing, where that is not its cohort."""

_ABOUT_COMBINING = {
    "norm_clipping": "Long updates are shortened, so that shares may sum to less than 1.",
    "krum": "An update that was not chosen has a share of 0.",
    "multi_krum": "An update that was not chosen has a share of 0.",
}
"""Combining rule to what it does to the weights; others leave them, or count every hospital once."""


def between_hospitals(summary: Summary) -> Element | None:
    """Return the section on differences between hospitals; None where nothing was compared."""
    parts = [*_gains(summary), *_spreads(summary), *_weights(summary)]
    return element("section", element("h2", "How unlike the hospitals fare"), parts) if parts else None


def joined(summary: Summary) -> str:
    """Say at how many hospitals joining was better than training alone; empty where nobody trained alone."""
    if summary.gains is None:
        return ""
    known = [(name, summary.gains.tallies[name]) for name in ("auroc", "accuracy") if name in summary.gains.tallies]
    told = min(known, key=lambda pair: pair[1].untold, default=None)  # the figure that most hospitals have
    return _counted(*told) if told else ""


def unused(summary: Summary) -> dict[str, list[int]]:
    """Return the rounds in which a site's update came and was not used, for each site that has any."""
    found = {
        site.site: [event.round for event in summary.combined if event.weights.get(site.site) == 0.0]
        for site in summary.sites
    }
    return {site: numbers for site, numbers in found.items() if numbers}


def _counted(name: str, tally: Tally) -> str:
    hospitals = tally.gained + tally.lost + tally.unclear + tally.untold
    others = [
        f"{count} {what}"
        for count, what in (
            (tally.lost, "lost"),
            (tally.unclear, "cannot be told apart"),
            (tally.untold, "without a figure"),
        )
        if count
    ]
    rest = f"; {', '.join(others)}" if others else ""
    return f"{tally.gained} of {hospitals} hospitals gained over training alone ({_words(name)}){rest}."


def _gains(summary: Summary) -> Iterator[Element]:
    if summary.gains is None:
        return
    number, colours = summary.gains.round, {site.site: colour for colour, site in enumerate(summary.sites)}
    yield element("p", joined(summary))
    yield element("p", _ABOUT_GAINS, class_="soft")
    for name in ("auroc", "accuracy"):
        known = {site: gain.get(name) for site, gain in summary.gains.sites.items()}
        rows = [Series(site, {number: gain}, colours.get(site)) for site, gain in known.items() if gain is not None]
        if rows:
            title = f"Gain in {_words(name)} over training alone"
            widest = max(max(abs(row.points[number].low), abs(row.points[number].high)) for row in rows)
            reach = next((top for top in (0.1, 0.2, 0.5) if widest <= top), 1.0)
            axis = Axis(-reach, reach)
            yield element("h3", title)
            yield forest(title, rows, number=number, axis=axis, marks=[0.0] * len(rows))


def _spreads(summary: Summary) -> Iterator[Element]:
    if not summary.compared:
        return
    latest = summary.compared[-1]
    head = ["Figure", "Worst hospital", "Best", "Mean", "Worst below mean", "Spread (sd)", "Jain", "Gini"]
    yield element("h3", "Between hospitals")
    yield element("p", _ABOUT_SPREAD, class_="soft")
    yield table(f"After round {latest.round}.", head, [_spread_row(name, of) for name, of in latest.figures.items()])


def _spread_row(name: str, of: Spread) -> list[str]:
    return [
        f"{_words(name)}, {of.sites} hospitals",
        f"{said(of.worst)} {of.worst_site}",
        f"{said(of.best)} {of.best_site}",
        *map(_or_dash, (of.mean, of.shortfall, of.sd, of.jain, of.gini)),
    ]


def _weights(summary: Summary) -> Iterator[Element]:
    rule, combining = summary.setting("weighting", "rule"), summary.setting("combining", "rule")
    if not summary.combined or (rule in (None, *_OF_COHORTS) and combining not in _ABOUT_COMBINING):
        return
    rounds, colours = summary.combined[-1].round, {site.site: colour for colour, site in enumerate(summary.sites)}
    lines = []
    for site, colour in colours.items():
        weights = {event.round: event.weights[site] for event in summary.combined if site in event.weights}
        points = {number: Estimate(weight, weight, weight) for number, weight in weights.items()}
        lines += [Series(site, points, colour)] if points else []
    values = [point.value for line in lines for point in line.points.values()]
    low, top = min([0.0, *values]), max([0.4, *values])
    title = "How much each hospital counted"
    yield element("h3", title)
    yield element("p", _about_weights(rule, combining), class_="soft")
    if rounds > 1 and lines:
        yield curves(title, lines, rounds=rounds, span=(low, top))
    head = [
        "Hospital",
        "Share of patients",
        "Least",
        "Most",
        "In the last round",
        "Rounds without its signal",
        "Rounds not used",
    ]
    yield table(f"Weighting: {rule}; combining: {combining or 'linear'}.", head, _weight_rows(summary))


def _about_weights(rule: object, combining: object) -> str:
    silent = "" if rule in _OF_COHORTS else _WITHOUT_SIGNAL.get(str(rule), _FALLS_BACK)
    return " ".join(filter(None, (_ABOUT_WEIGHTS, silent, _ABOUT_COMBINING.get(str(combining)))))


def _weight_rows(summary: Summary) -> Iterator[list[str]]:
    aside = unused(summary)
    patients = sum(site.declared_patients or 0 for site in summary.sites)
    for site in summary.sites:
        weights = [event.weights[site.site] for event in summary.combined if site.site in event.weights]
        if weights and site.declared_patients:
            silent = sum(site.site in event.fallen_back for event in summary.combined)
            figures = (site.declared_patients / patients, min(weights), max(weights), weights[-1])
            yield [site.site, *(f"{figure:.3f}" for figure in figures), str(silent), _ranges(aside.get(site.site, []))]


def _ranges(numbers: list[int]) -> str:
    """Return rising numbers as they are read: 1-3, 5."""
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    pairs = zip(starts, ends, strict=True)
    return ", ".join(str(start) if start == end else f"{start}-{end}" for start, end in pairs) or "none"


def _or_dash(figure: Estimate | None) -> str:
    return UNKNOWN if figure is None else said(figure)


def _words(name: str) -> str:
    return {"auroc": "AUROC"}.get(name, name.replace("_", " "))

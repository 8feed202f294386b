"""The report's section on what the sites' patients look like together, where their statistics were pooled."""

from server_app.report.events import Noised, StatisticsPooled
from server_app.report.markup import Element, element, table

_INTRODUCTION = (
    "Before round 1 the sites sent sums of their training patients, with noise, and charged them to their ledgers. "
    "The model's input is centred and scaled by what the sums say together. After ± stands the noise in a figure, one "
    "standard deviation."
)


def statistics_section(pooled: StatisticsPooled | None) -> Element | None:
    """Return the section; None where nothing was pooled."""
    if pooled is None:
        return None
    shares = [[label, _said(share, percent=True)] for label, share in pooled.prevalence.items()]
    columns = [
        [name, _said(of["missing"], percent=True), _said(of["mean"]), _said(of["deviation"])]
        for name, of in pooled.columns.items()
    ]
    states = [[name, _said(figure)] for name, figure in pooled.states.items()]
    return element(
        "section",
        element("h2", "What the model's input is standardised by"),
        element("p", f"{_INTRODUCTION} Sites: {', '.join(pooled.sites)}.", class_="soft"),
        table("Training patients by label.", ["Label", "Share"], shares),
        table("Columns, in their own units.", ["Column", "Missing", "Mean", "Deviation"], columns) if columns else None,
        table("States that enter the head: lengths.", ["Figure", "Length"], states) if states else None,
    )


def _said(figure: Noised, *, percent: bool = False) -> str:
    if percent:
        return f"{100 * figure.value:.0f} % ± {100 * figure.sd:.0f}"
    return f"{figure.value:.3g} ± {figure.sd:.2g}"

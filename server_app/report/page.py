"""``report.html``: one file, no network, no script; the verdict first, then what it rests on."""

import json
import math
from pathlib import Path

from fedfm.metrics.performance import LEAST_PATIENTS, Estimate, Performance
from fedfm.privacy_statement import markdown
from fedfm.wire import PrivacySpent
from server_app.report.charts import Series, bars, curves, forest, said
from server_app.report.contributions import contributions
from server_app.report.event_log import read_events
from server_app.report.fairness import audit_losses, by_groups
from server_app.report.files import write_manifest, write_metrics
from server_app.report.gaps import beside, by_gaps
from server_app.report.hospitals import between_hospitals
from server_app.report.markup import UNKNOWN, Element, element, head, table, written
from server_app.report.privacy import run_statement
from server_app.report.privacy import section as privacy_section
from server_app.report.reasons import reasons
from server_app.report.statistics import statistics_section
from server_app.report.style import CSS
from server_app.report.summary import EVERYONE, SiteSummary, Summary, summarise
from server_app.report.verdict import Verdict, beside_baseline, verdict

_ON_TEST_PATIENTS = (
    "On test patients that no site trained on. Counts may carry noise that protects them, so that a number of "
    "patients is an estimate too; intervals (95 %) hold both chance and noise."
)
_FIGURES = ("accuracy", "baseline", "auroc", "sensitivity", "specificity", "prevalence", "brier")


def write_report(folder: Path, *, other: Path | None = None) -> Verdict:
    """Render ``report.html``, ``privacy.md``, ``metrics.csv`` and ``manifest.json`` from ``events.jsonl`` alone.

    Args:
        folder: Of the run.
        other: Folder of a run that the report sets this one beside.

    Returns:
        The verdict that leads the report.

    Raises:
        WireError: There are no events, or they cannot be read.
    """
    summary = summarise(read_events(folder / "events.jsonl"))
    judged = verdict(summary)
    compared = None if other is None else summarise(read_events(other / "events.jsonl"))
    (folder / "report.html").write_text(page(summary, judged, other=compared), encoding="utf-8")
    (folder / "privacy.md").write_text(markdown(run_statement(summary)), encoding="utf-8")
    write_metrics(folder / "metrics.csv", summary)
    write_manifest(folder)
    return judged


def page(summary: Summary, judged: Verdict, *, other: Summary | None = None) -> str:
    """Return the whole document; with a section that sets it beside another run, where there is one."""
    name = summary.started.run if summary.started else "run"
    parts = [
        _verdict(judged),
        _facts(summary),
        None if other is None else beside(summary, other),
        _performance(summary),
        between_hospitals(summary),
        by_gaps(summary),
        by_groups(summary),
        reasons(summary),
        contributions(summary),
        audit_losses(summary),
        _budget(summary),
        privacy_section(run_statement(summary)),
        statistics_section(summary.statistics),
        _sites(summary),
        _costs(summary),
        _configuration(summary),
    ]
    body = element("main", element("h1", f"{summary.setting('purpose') or 'Study'} · {name}"), parts)
    return written(element("html", head(f"fedfm: {name}", CSS), element("body", body), lang="en"))


def _verdict(judged: Verdict) -> Element:
    is_good = judged.status == "completed" and judged.is_private
    reasons = element("ul", [element("li", reason) for reason in judged.reasons]) if judged.reasons else None
    return element(
        "section",
        element("h2", judged.headline),
        element("p", judged.gain, class_="gain") if judged.gain else None,
        element("p", judged.privacy, class_="privacy" if judged.is_private else "privacy alarm"),
        reasons,
        class_="verdict" if is_good else "verdict bad",
    )


def _facts(summary: Summary) -> Element | None:
    if not summary.performance:
        return None
    last = summary.performance[max(summary.performance)]
    figures = {
        "Accuracy": last.accuracy,
        "Always the most frequent class": last.baseline,
        "AUROC": last.auroc,
        "Test patients": last.patients,
    }
    facts = [
        element("div", element("dt", title), element("dd", f"{figure.value:.0f}" if figure.value > 1 else said(figure)))
        for title, figure in figures.items()
        if figure is not None
    ]
    return element("section", element("dl", facts, class_="facts"))


def _performance(summary: Summary) -> Element | None:
    if not summary.performance:
        return None
    last = max(summary.performance)
    parts: list[Element | None] = []
    for title, name in (("Accuracy", "accuracy"), ("AUROC", "auroc")):
        series = _series(summary, name)
        if max((len(line.points) for line in series), default=0) > 1:
            over = f"{title} over rounds"
            parts += [element("h3", over), curves(over, series, rounds=max(summary.performance))]
        known = [line for line in series if last in line.points]
        if known:
            after = f"{title} after round {last}"
            parts += [element("h3", after), forest(after, known, number=last)]
    every = [(site.site, site.performance.get(last)) for site in summary.sites]
    figures = [*every, (EVERYONE, summary.performance[last])]
    rows_of_text = [[site, *_cells(figure)] for site, figure in figures if figure is not None]
    head = [
        "Site",
        "Test patients",
        "Accuracy",
        "Most frequent class",
        "AUROC",
        "Sensitivity",
        "Specificity",
        "Prevalence",
        "Brier",
    ]
    return element(
        "section",
        element("h2", "How good the model is"),
        element("p", _ON_TEST_PATIENTS, class_="soft"),
        element("p", beside_baseline(summary.performance[last])),
        parts,
        table(f"After round {last}; a dash: the counts cannot say.", head, rows_of_text),
    )


def _series(summary: Summary, name: str) -> list[Series]:
    """Return the figure by round, where it is known, for each site and last for all together."""
    listed = [(site.site, site.performance, colour) for colour, site in enumerate(summary.sites)]
    series = []
    for site, performance, colour in [*listed, (EVERYONE, summary.performance, None)]:
        found = {number: getattr(figures, name) for number, figures in performance.items()}
        points = {number: figure for number, figure in found.items() if figure is not None}
        if points:
            series.append(Series(site, points, colour))
    return series


def _cells(performance: Performance) -> list[str]:
    figures: list[Estimate | None] = [getattr(performance, name) for name in _FIGURES]
    patients = performance.patients
    is_noised = patients.low < patients.high  # an exact count is what the hospital shows by its own policy
    counted = UNKNOWN if is_noised and patients.value < LEAST_PATIENTS else f"{patients.value:.0f}"
    return [counted, *(UNKNOWN if figure is None else said(figure) for figure in figures)]


def _budget(summary: Summary) -> Element | None:
    budget = summary.setting("privacy", "epsilon")
    told = [(site.site, site.privacy) for site in summary.sites if site.privacy is not None]
    finite = [
        (site, privacy.run, privacy.planned)
        for site, privacy in told
        if privacy.unit != "none" and math.isfinite(privacy.run) and math.isfinite(privacy.planned)
    ]
    if not finite or not isinstance(budget, int | float):
        return None
    head = ["Site", "Unit", "ε this run", "ε training, in all", "ε test", "ε audit", "δ", "Noise"]
    rows = [
        [site, p.unit, *(f"{spent:.3f}" for spent in (p.run, p.train, p.test, p.audit)), *_noise(p)] for site, p in told
    ]
    return element(
        "section",
        element("h2", "What the patients' privacy has cost"),
        element(
            "p", "ε of a training patient in this run; the mark is what was planned for all rounds.", class_="soft"
        ),
        bars("Privacy spent by site", finite, budget=float(budget)),
        table("“In all” counts every study of this cohort so far.", head, rows),
    )


def _noise(privacy: PrivacySpent) -> tuple[str, str]:
    return f"{privacy.delta:.2g}", f"{privacy.noise_multiplier:.2f}"


def _sites(summary: Summary) -> Element:
    rounds = len(summary.combined)
    rows = [[site.site, *_site_cells(site, rounds)] for site in summary.sites]
    head = ["Site", "Patients (declared)", "Rounds in the model", "Left out"]
    return element("section", element("h2", "Who took part"), table("Every site that was heard of.", head, rows))


def _site_cells(site: SiteSummary, rounds: int) -> list[Element | str]:
    causes = list(dict.fromkeys(f"{event.code} {event.reason}" for event in site.left_out))
    patients = UNKNOWN if site.declared_patients is None else str(site.declared_patients)
    return [patients, f"{len(site.rounds)} of {rounds}", element("span", "; ".join(causes) or "never")]


def _costs(summary: Summary) -> Element:
    rows = [
        [site.site, _seconds(site.train_seconds), _seconds(site.evaluate_seconds), _bytes(site.update_bytes)]
        for site in summary.sites
    ]
    whole = f"{summary.ended.seconds:.1f} s in all; " if summary.ended else ""
    sent = f"{whole}{_bytes(summary.request_bytes)} of parameters sent to the sites for training."
    head = ["Site", "Training", "Evaluation", "Sent"]
    return element("section", element("h2", "What it cost"), table(sent, head, rows))


def _seconds(values: tuple[float, ...]) -> str:
    return f"{sum(values):.1f} s in {len(values)}" if values else UNKNOWN


def _bytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _configuration(summary: Summary) -> Element | None:
    if summary.started is None:
        return None
    text = json.dumps(summary.started.study, indent=2, ensure_ascii=False)
    made = f"fedfm {summary.started.release}, {summary.started.parameters:,} trained parameters"
    return element(
        "section",
        element("h2", "How it was made"),
        element("p", f"{made}, layout {summary.started.layout[:16]}.", class_="soft"),
        element("details", element("summary", "The resolved study"), element("pre", text)),
    )

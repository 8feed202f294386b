"""A run's privacy statement at the coordinator, from the run's events alone."""

import json
import math
from collections import Counter
from collections.abc import Iterator

from fedfm.config.compose import study_from_json
from fedfm.config.study import Study
from fedfm.errors import FedFMError
from fedfm.privacy import Release, epsilon
from fedfm.privacy_statement import Bound, Facts, Mechanism, Statement, Table, epsilon_text, statement
from fedfm.statement_texts import paragraphs
from fedfm.wire import PrivacySpent
from server_app.report.markup import Element, element, table
from server_app.report.summary import SiteSummary, Summary

_Told = list[tuple[SiteSummary, PrivacySpent]]


def run_statement(summary: Summary) -> Statement:
    """Return the statement of a run: what each site says it spent, and what the study plans at each delta."""
    told = [(site, site.privacy) for site in summary.sites if site.privacy is not None]
    planned, mechanisms, note = _plans(summary, sorted({spent.delta for _, spent in told}, reverse=True))
    name = summary.started.run if summary.started else "unknown"
    return statement(
        Facts(
            title=f"Privacy statement of run {name}",
            source="Spent figures are what each hospital's trainer stated with its last reply, from its own ledger; "
            "planned ones follow from the study, if every round runs. The coordinator has seen no ledger." + note,
            units=tuple(sorted({spent.unit for _, spent in told})),
            bounds=tuple(_spent(told)),
            planned=planned,
            mechanisms=mechanisms,
            releases_of="All releases that the study plans at each hospital, at the first delta above.",
            composition=paragraphs(
                """
                Each hospital composes this run with every other run and study on the same cohort, in its own ledger,
                and refuses what would pass the cap of its own policy. “In all” below is that sum.

                A hospital's exact history is in the statement that it makes itself: fedfm-site privacy-report.
                """
            ),
            history=(_composition(told), _heads(told)),
            exposure=paragraphs(
                """
                No patient's data reached the coordinator. What arrived is noised parameters and noised counts, kept
                in this run's folder: events, checkpoints and the adapter. Everything made from them keeps the bound.

                Raw data, and what is made from them before the noise, stay in each hospital's trainer.
                """
            ),
            warnings=tuple(_warnings(summary)),
        )
    )


def section(made: Statement) -> Element:
    """Return the statement as the part of a page that opens by a click; warnings stand outside of it."""
    parts = [
        element("details", element("summary", "The whole statement, as NIST SP 800-226 asks for it"), _parts(made))
    ]
    return element(
        "section",
        element("h2", "What is promised to the patients, and what is not"),
        [element("p", text, class_="privacy alarm") for text in made.warnings],
        element("p", "The same text lies beside this page, as privacy.md.", class_="soft"),
        parts,
    )


def _parts(made: Statement) -> Iterator[Element]:
    for one in made.sections:
        yield element("h3", one.heading)
        yield from (element("p", text) for text in one.paragraphs)
        yield from (table(each.caption, each.head, each.rows) for each in one.tables)


def _spent(told: _Told) -> Iterator[Bound]:
    for site, spent in told:
        yield Bound(f"{site.site}, training patients, this run", spent.delta, _lost(spent, spent.run))


def _lost(spent: PrivacySpent, value: float) -> float:
    """A site whose study has no mechanism protects nobody, whatever was spent before the first release."""
    return math.inf if spent.unit == "none" else value


def _plans(summary: Summary, deltas: list[float]) -> tuple[tuple[Bound, ...], tuple[Mechanism, ...], str]:
    """Return what the study plans at each delta, its releases at the first, and why where there is none."""
    if summary.started is None or not deltas:
        return (), (), " No hospital took part, so that nothing was planned."
    try:
        study = study_from_json(json.dumps(summary.started.study))
        plans = [(delta, _planned(study, delta)) for delta in deltas]
    except FedFMError as problem:  # of another release, or one that no noise fits: the statement says so
        return (), (), f" The study's releases cannot be planned here: {problem.code}."
    bounds = tuple(bound for delta, planned in plans for bound in _planned_bounds(planned, delta))
    return bounds, plans[0][1], ""


def _planned(study: Study, delta: float) -> tuple[Mechanism, ...]:
    from fedfm.plan import plan, planned  # noqa: PLC0415 - takes seconds; only a report needs it

    return tuple(Mechanism(one.name, one.release, one.times) for one in planned(study, plan(study, delta=delta)))


_WHOSE = {"train": "training patients", "test": "test patients", "audit": "audit patients"}


def _planned_bounds(planned: tuple[Mechanism, ...], delta: float) -> Iterator[Bound]:
    from fedfm.plan import SPLITS  # noqa: PLC0415 - as above

    for split, purposes in SPLITS.items():
        history = tuple(
            Release(one.release.noise_multiplier, one.release.sample_rate, one.release.steps * one.times)
            for one in planned
            if one.purpose in purposes
        )
        if not history:
            continue
        is_open = any(release.noise_multiplier <= 0 for release in history)
        yield Bound(
            f"any site, {_WHOSE[split]}, planned", delta, math.inf if is_open else epsilon(history, delta), history
        )


def _composition(told: _Told) -> Table:
    rows = tuple(
        (
            site.site,
            spent.unit,
            *(epsilon_text(_lost(spent, value)) for value in (spent.run, spent.planned)),
            *(epsilon_text(value) for value in (spent.train, spent.test, spent.audit)),
            f"{spent.delta:.2g}",
            str(len(site.rounds)),
        )
        for site, spent in told
    )
    head = (
        "Site",
        "Unit",
        "this run",
        "planned",
        "training, in all",
        "test, in all",
        "audit, in all",
        "delta",
        "Rounds",
    )
    empty = (("none", *("—",) * 8),)
    return Table("Epsilon as each hospital states it. Rounds: those whose model holds its update.", head, rows or empty)


def _heads(told: _Told) -> Table:
    rows = tuple(
        (
            site.site,
            *(
                f"{entries}:{seal}" if entries else "none"
                for entries, seal in ((spent.entries, spent.seal), (spent.audit_entries, spent.audit_seal))
            ),
        )
        for site, spent in told
    )
    caption = (
        "Heads of each hospital's files, length and last seal, as its last answer stated them. The hospital verifies "
        "with fedfm-site audit verify SITE_FILE --anchor N:SEAL that its audit log still holds this one."
    )
    return Table(caption, ("Site", "Ledger", "Audit log"), rows or (("none", "—", "—"),))


def _warnings(summary: Summary) -> Iterator[str]:
    if summary.setting("evaluation", "release") == "exact":
        yield "The study asks for EXACT counts of test patients: NO PRIVACY GUARANTEE for them."
    units = Counter(site.privacy.unit for site in summary.sites if site.privacy is not None)
    if len(units) > 1:
        yield f"The hospitals state different units of privacy: {', '.join(sorted(units))}."

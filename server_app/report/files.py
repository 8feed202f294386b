"""The folder of a run: its name, its figures as a table, and the hashes of all that is in it."""

import csv
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

from fedfm.errors import EngineError
from fedfm.metrics.between_sites import Spread
from fedfm.metrics.gaps import Gap
from fedfm.metrics.groups import GroupFigures
from fedfm.metrics.performance import Estimate, Performance
from server_app.report.summary import Summary


def make_run_folder(results: Path, *, study: str, now: datetime) -> Path:
    """Make ``<results>/<UTC yyyymmdd-hhmmss>-<study>`` and point ``<results>/latest`` at it.

    Raises:
        EngineError: The folder cannot be made.
    """
    name = f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{study}"
    try:
        results.mkdir(parents=True, exist_ok=True)
        folder = _fresh(results, name)
        link = results / f".latest-{os.getpid()}"
        link.symlink_to(folder.name)
        link.replace(results / "latest")
    except OSError as problem:
        raise EngineError(
            "REPORT-E003",
            "the results cannot be written",
            where=str(results),
            found=problem.strerror or type(problem).__name__,
            fix="set FEDFM_RESULTS, or the run configuration's results, to a folder that can be written",
        ) from problem
    return folder


def _fresh(results: Path, name: str) -> Path:
    """Make a folder of this name; with a number behind where two runs start in one second."""
    for attempt in range(1, 1000):
        folder = results / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(name)


def write_metrics(path: Path, summary: Summary) -> None:
    """Write one row for each round, site and figure; the site ``all`` is all of them together.

    A group's figures are named as in ``accuracy[sex=female]``, an attribute's gaps as in
    ``equal_opportunity_difference[sex]``; ``audit_loss`` is in nats, and so is a
    ``contribution``, which has no interval.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["round", "site", "figure", "value", "low", "high"])
        for rows in (_of_performance, _of_groups, _of_gaps, _of_losses, _of_sites, _of_gains, _of_contributions):
            writer.writerows(rows(summary))


_Rows = Iterator[list[object]]


def _of_performance(summary: Summary) -> _Rows:
    everybody = {"all": summary.performance, **{site.site: site.performance for site in summary.sites}}
    for site, performance in everybody.items():
        for number, figures in sorted(performance.items()):
            yield from _rows(number, site, figures)


def _of_groups(summary: Summary) -> _Rows:
    if summary.groups is not None:
        for key, group in summary.groups.groups.items():
            yield from _rows(summary.groups.round, "all", group, of=f"[{key}]") if group else ()


def _of_gaps(summary: Summary) -> _Rows:
    if summary.gaps is None:
        return
    number = summary.gaps.round
    for site, attributes in {"all": summary.gaps.pooled, **summary.gaps.sites}.items():
        for attribute, gaps in attributes.items():
            for name, gap in gaps.items():
                yield from _rows(number, site, gap, of=f"[{attribute}]", before=f"{name}_") if gap else ()
    for attribute, local in summary.gaps.local.items():
        for name, of_sites in local.items():
            if of_sites is not None:
                yield _row(number, "all", f"{name}_worst_site[{attribute}]", of_sites.worst)
                yield _row(number, "all", f"{name}_mean_over_sites[{attribute}]", of_sites.mean)


def _of_losses(summary: Summary) -> _Rows:
    for event in summary.losses:
        lost = {"all": event.together, **event.sites}
        yield from (_row(event.round, site, "audit_loss", figure) for site, figure in lost.items() if figure)


def _of_sites(summary: Summary) -> _Rows:
    """Rows such as ``accuracy_over_sites_worst``."""
    for event in summary.compared:
        for name, spread in event.figures.items():
            yield from _rows(event.round, "all", spread, before=f"{name}_over_sites_")


def _of_gains(summary: Summary) -> _Rows:
    if summary.gains is None:
        return
    number = summary.gains.round
    for site, gains in summary.gains.sites.items():
        yield from (_row(number, site, f"{name}_gain", gain) for name, gain in gains.items() if gain)
    for name, tally in summary.gains.tallies.items():
        for said, sites in vars(tally).items():
            yield _row(number, "all", f"{name}_sites_{said}", Estimate(sites, sites, sites))


def _of_contributions(summary: Summary) -> _Rows:
    for event in summary.contributions:
        brought = {"all": event.total, **event.values}
        yield from ([event.round, site, "contribution", value, "", ""] for site, value in brought.items())


def _rows(
    number: int, site: str, figures: Performance | GroupFigures | Gap | Spread, *, of: str = "", before: str = ""
) -> _Rows:
    for field in fields(figures):
        figure = getattr(figures, field.name)
        if isinstance(figure, Estimate):
            yield _row(number, site, before + field.name + of, figure)


def _row(number: int, site: str, name: str, figure: Estimate) -> list[object]:
    return [number, site, name, figure.value, figure.low, figure.high]


def write_manifest(folder: Path) -> None:
    """Write ``manifest.json``: path to SHA-256 of every other file of the run."""
    hashes = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }
    (folder / "manifest.json").write_text(json.dumps(hashes, indent=2) + "\n", encoding="utf-8")

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

    A group's figures are named as in ``accuracy[sex=female]``; ``audit_loss`` is in nats, and so is a
    ``contribution``, which has no interval.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["round", "site", "figure", "value", "low", "high"])
        for number, figures in sorted(summary.performance.items()):
            writer.writerows(_rows(number, "all", figures))
        for site in summary.sites:
            for number, figures in sorted(site.performance.items()):
                writer.writerows(_rows(number, site.site, figures))
        if summary.groups is not None:
            for key, group in summary.groups.groups.items():
                writer.writerows(_rows(summary.groups.round, "all", group, of=f"[{key}]") if group else ())
        for event in summary.losses:
            lost = {"all": event.together, **event.sites}
            writer.writerows(_row(event.round, site, "audit_loss", figure) for site, figure in lost.items() if figure)
        for measured in summary.contributions:
            brought = {"all": measured.total, **measured.values}
            writer.writerows([measured.round, site, "contribution", value, "", ""] for site, value in brought.items())


def _rows(number: int, site: str, figures: Performance | GroupFigures, *, of: str = "") -> Iterator[list[object]]:
    for field in fields(figures):
        figure = getattr(figures, field.name)
        if figure is not None:
            yield _row(number, site, field.name + of, figure)


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

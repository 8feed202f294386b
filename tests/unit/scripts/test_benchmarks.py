"""Figures stand beside their targets, and a figure that is missing is an error."""

import json
from pathlib import Path

import pytest

from scripts.benchmarks.registry import BENCHMARKS
from scripts.benchmarks.result import Benchmark, Grid, Result, Target, document, keep, page
from scripts.benchmarks.timeline import RoundTimes, round_times

BENCHMARK = Benchmark("speed", "How fast.", {"a_seconds": Target("<=", 4.0), "b_ratio": Target(">=", 2.0)})


def test_targets_are_judged_on_both_sides() -> None:
    found = document(BENCHMARK, Result({"a_seconds": 4.0, "b_ratio": 1.9, "c": 7.0}, (1,)))
    assert {name: target["met"] for name, target in found["targets"].items()} == {"a_seconds": True, "b_ratio": False}


def test_a_missing_figure_is_an_error() -> None:
    with pytest.raises(KeyError):
        document(BENCHMARK, Result({"a_seconds": 1.0}, (1,)))


def test_the_page_shows_figures_and_what_was_missed(tmp_path: Path) -> None:
    keep(document(BENCHMARK, Result({"a_seconds": 4.0, "b_ratio": 1.9, "c": 7.0}, (1, 2), ("A note.",))), tmp_path)
    written = page(tmp_path)
    assert "| a seconds | 4 | <= 4 | yes |" in written
    assert "| b ratio | 1.9 | >= 2 | **no** |" in written
    assert "| c | 7 |  |  |" in written
    assert "seeds 1, 2" in written
    assert "- A note." in written


def test_the_page_shows_grids_and_leaves_what_is_not_defined_empty(tmp_path: Path) -> None:
    grid = Grid("By site:", ("mean", "worst"), {"north": (0.5, None), "south": (1, 0.12345)})
    keep(document(BENCHMARK, Result({"a_seconds": 4.0, "b_ratio": 1.9}, (1,), ("A note.",), (grid,))), tmp_path)
    written = page(tmp_path)
    assert "- A note.\n\nBy site:\n\n|  | mean | worst |\n|---|---|---|\n| north | 0.5 |  |\n" in written
    assert "| south | 1 | 0.1235 |" in written or "| south | 1 | 0.1234 |" in written


def test_the_kept_results_are_those_of_the_page() -> None:
    project = Path(__file__).parents[3]
    assert (project / "docs" / "benchmarks.md").read_text() == page(project / "benchmarks")
    kept = {json.loads(path.read_text())["benchmark"] for path in (project / "benchmarks").glob("*.json")}
    assert kept <= set(BENCHMARKS)


def told(folder: Path, *happened: tuple[int, str, int, float]) -> Path:
    """Write events: second, kind, round, and the seconds that they state."""
    lines = [
        json.dumps({"time": f"2026-01-01T00:00:{second:02}.000Z", "kind": kind, "round": number, "seconds": seconds})
        for second, kind, number, seconds in happened
    ]
    (folder / "events.jsonl").write_text("\n".join(lines))
    return folder


def test_overhead_is_wall_time_without_the_slowest_sites_computing(tmp_path: Path) -> None:
    first = (
        (0, "RoundStarted", 1, 0.0),
        (1, "SiteTrained", 1, 9.0),
        (1, "RoundCombined", 1, 0.0),
        (2, "SiteEvaluated", 1, 9.0),
    )
    second = (
        (10, "RoundStarted", 2, 0.0),
        (13, "SiteTrained", 2, 1.0),
        (14, "SiteTrained", 2, 2.0),
        (15, "RoundCombined", 2, 5.0),
        (18, "SiteEvaluated", 2, 0.5),
        (18, "ModelEvaluated", 2, 3.0),
    )
    (times,) = round_times(told(tmp_path, *first, (3, "ModelEvaluated", 1, 0.0), *second))
    assert times == RoundTimes(train=5.0, evaluate=3.0, compute=2.5, combine=1.0)


def test_what_travels_in_one_exchange_counts_in_one(tmp_path: Path) -> None:
    happened = (
        (0, "RoundStarted", 1, 0.0),
        (1, "SiteTrained", 1, 9.0),
        (1, "RoundCombined", 1, 0.0),
        (10, "RoundStarted", 2, 0.0),
        (14, "SiteTrained", 2, 2.0),
        (15, "SiteEvaluated", 1, 0.5),
        (15, "ModelEvaluated", 1, 0.0),
        (16, "RoundCombined", 2, 5.0),
        (20, "RoundStarted", 3, 0.0),
        (23, "SiteTrained", 3, 1.0),
        (24, "SiteEvaluated", 2, 0.25),
        (24, "ModelEvaluated", 2, 0.0),
        (24, "RoundCombined", 3, 0.0),
        (30, "SiteEvaluated", 3, 0.75),
        (30, "ModelEvaluated", 3, 0.0),
    )
    second, third = round_times(told(tmp_path, *happened))
    assert second == RoundTimes(train=6.0, evaluate=0.0, compute=2.5, combine=1.0)
    assert third == RoundTimes(train=4.0, evaluate=6.0, compute=1.75, combine=0.0)

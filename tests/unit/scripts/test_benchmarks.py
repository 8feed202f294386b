"""Figures stand beside their targets, and a figure that is missing is an error."""

import json
from pathlib import Path

import pytest

from scripts.benchmarks.registry import BENCHMARKS
from scripts.benchmarks.result import Benchmark, Grid, Result, Target, document, keep, page
from scripts.benchmarks.timeline import round_times

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


def test_overhead_is_wall_time_without_the_slowest_sites_computing(tmp_path: Path) -> None:
    happened = [
        ("00", {"kind": "RoundStarted", "round": 1}),
        ("04", {"kind": "SiteTrained", "round": 1, "seconds": 1.0}),
        ("05", {"kind": "SiteTrained", "round": 1, "seconds": 2.0}),
        ("05", {"kind": "RoundCombined", "round": 1, "seconds": 5.0}),
        ("08", {"kind": "SiteEvaluated", "round": 1, "seconds": 0.5}),
        ("08", {"kind": "ModelEvaluated", "round": 1, "seconds": 3.0}),
    ]
    lines = [json.dumps({"time": f"2026-01-01T00:00:{second}.000Z", **event}) for second, event in happened]
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    (times,) = round_times(tmp_path)
    assert (times.train, times.evaluate, times.compute) == (5.0, 3.0, 2.5)

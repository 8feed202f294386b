"""Public data for a demo is found where fetching puts it."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from fedfm.config.compose import load_site
from fedfm.errors import DataError
from scripts.engine import sources
from scripts.public_data import __main__ as fetching
from scripts.public_data.site_folders import PublicSite

TABLE = pd.DataFrame({"patient": ["p1", "p2"], "age": [50, 60], "label": [0, 1], "split": ["train", "test"]})
DATA = {
    **{"loader": "columns", "columns": {"age": "age"}, "label": "label", "label_map": {"0": "no", "1": "ill"}},
    **{"patient": "patient", "split": {"column": "split"}},
}


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Make ``heart_disease`` two tiny sites, fetched by the real command in this process; return its calls."""
    sites = [PublicSite(name, name.title(), TABLE, DATA) for name in ("north", "south")]
    tiny = SimpleNamespace(FOLDER_FILES=(), sites=lambda folder: sites)
    monkeypatch.setitem(fetching.SETS, "heart_disease", tiny)  # type: ignore[arg-type]
    monkeypatch.setattr(fetching, "check_folder", lambda files, folder: None)
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[1:3] == ["-m", "scripts.public_data"]
        calls.append(command[3:])
        return subprocess.CompletedProcess(command, fetching.main(command[3:]), "", "no such file")

    monkeypatch.setattr(sources.subprocess, "run", run)
    return calls


def test_data_fetched_into_an_empty_store_gives_site_files(fetched: list[list[str]], tmp_path: Path) -> None:
    store = tmp_path / "store"
    found = sources.site_files("heart_disease", store, source=tmp_path)
    assert [path.parent.name for path in found] == ["north", "south"]
    assert all(path.is_file() and (path.parent / "cohort.csv").is_file() for path in found)
    assert sources.site_files("heart_disease", store, source=tmp_path) == found
    assert len(fetched) == 1  # what is there is not fetched again


def test_an_empty_folder_left_behind_is_not_taken_for_data(fetched: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "store" / "heart_disease").mkdir(parents=True)
    assert len(sources.site_files("heart_disease", tmp_path / "store", source=tmp_path)) == 2
    assert len(fetched) == 1


def test_data_of_an_older_release_answers_without_approval(fetched: list[list[str]], tmp_path: Path) -> None:
    public = sources.site_files("heart_disease", tmp_path, source=tmp_path)
    invented = sources.site_files("demo", tmp_path, sites=1)
    for file in (*public, *invented):
        now = file.read_text()
        assert load_site(file).policy.approval == "none"
        file.write_text("".join(line for line in now.splitlines(keepends=True) if "approval" not in line))
        assert load_site(file).policy.approval == "required"
    sources.site_files("heart_disease", tmp_path, source=tmp_path)
    sources.site_files("demo", tmp_path, sites=1)
    assert {load_site(file).policy.approval for file in (*public, *invented)} == {"none"}
    assert len(fetched) == 1


@pytest.mark.parametrize("sites", [0, -1, 3])
def test_a_number_of_hospitals_that_the_data_has_not_is_refused(
    sites: int, fetched: list[list[str]], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"ENGINE-E104.*1 to 2"):
        sources.site_files("heart_disease", tmp_path, sites=sites, source=tmp_path)


def test_data_that_cannot_be_had_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ENGINE-E105"):
        sources.site_files("heart_disease", tmp_path / "store", source=tmp_path / "nowhere")


def test_data_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ENGINE-E103"):
        sources.site_files("nothing", tmp_path)

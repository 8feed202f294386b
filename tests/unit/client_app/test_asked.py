"""Where a site keeps what it makes, or says, once: by run and cohort, and by study unless one run may say it once."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from client_app.asked import Round
from client_app.kept import written_once
from fedfm.config.compose import study_from_json, study_to_json
from fedfm.wire import Request
from tests.unit.client_app.hospital import asked, study_of


def asked_with(text: str, state: Path, *, run: str = "run") -> Round:
    return replace(asked(study_from_json(text), state), request=Request(run, text, 2, ""))


def test_how_a_coordinator_writes_a_study_makes_no_other_study(tmp_path: Path) -> None:
    text = study_to_json(study_of())
    reordered = json.dumps(dict(reversed(json.loads(text).items())), indent=1)
    first, same = (asked_with(written, tmp_path) for written in (text, reordered))
    assert first.kept("alone") == same.kept("alone")


def test_what_is_kept_is_of_one_run_one_study_and_what_of_the_site_file_it_was_made_by(tmp_path: Path) -> None:
    one, other = study_to_json(study_of()), study_to_json(study_of("seed=2"))
    made = asked_with(one, tmp_path)
    paths = {
        *(made.kept("table"), made.kept("table", of=["f", "m"]), made.kept("table", of=["f"]), made.kept("other")),
        *(asked_with(other, tmp_path).kept("table"), asked_with(one, tmp_path, run="another").kept("table")),
    }
    assert len(paths) == 6
    assert made.kept_in_run("said") == asked_with(other, tmp_path).kept_in_run("said")
    cohort = replace(made, site=replace(made.site, cohort="another"))
    elsewhere = {asked_with(one, tmp_path, run="another").kept_in_run("said"), cohort.kept_in_run("said")}
    assert len({made.kept_in_run("said"), *elsewhere}) == 3


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("no_umask")
def test_what_is_kept_is_written_once_and_readable_by_the_trainer_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "table-1.json"
    assert written_once(path, lambda: "[1]") == written_once(path, lambda: "[2]") == "[1]"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]

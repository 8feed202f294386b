"""The demo's command: ending another demo, going on after --keep, and a federation of nobody."""

import os
import shlex
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedfm.config.compose import compose_study
from fedfm.errors import EngineError
from scripts.engine import __main__ as command
from scripts.engine import sources
from scripts.engine.launching import running
from server_app.demo_data import make_demo_data


def test_the_holder_of_the_lock_is_read_once_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("")
    writer = threading.Timer(0.2, lambda: path.write_text(str(os.getpid())))
    writer.start()
    with path.open("a+") as lock:
        assert command._holder(lock) == os.getpid()
    writer.join()


def test_a_lock_that_stays_empty_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_TRIES", 2)
    with (tmp_path / "lock").open("a+") as lock, pytest.raises(EngineError, match="ENGINE-E106"):
        command._holder(lock)


@pytest.mark.parametrize("data", ["demo", "heart_disease"])
def test_more_runs_are_of_the_data_at_hand(data: str, tmp_path: Path) -> None:
    federation: Any = SimpleNamespace(flower_home=tmp_path)
    assert f'overrides="experiment={data} ' in command._how_to_go_on(federation, data)


def test_no_hospitals_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="ENGINE-E104"), running([], tmp_path, results=tmp_path):
        pytest.fail("a federation of nobody")


@pytest.mark.parametrize("said", [(), ("explainability=none",), ("explainability.reference=mine.csv",)])
def test_the_demos_public_notes_go_to_the_coordinator_unless_it_shall_not_explain(
    said: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "it's a (demo) = 1"
    notes = sources.public_notes("demo", make_demo_data(folder, sites=1, patients=20))
    assert notes == folder / "reference.csv"
    federation: Any = SimpleNamespace(sites=[SimpleNamespace(id="hospital-a"), SimpleNamespace(id="hospital-b")])
    arguments = command._parser().parse_args(["--", *said])
    study = compose_study(shlex.split(command._overrides(arguments, federation, notes=notes))).value
    expected = {"explainability=none": "", "explainability.reference=mine.csv": "mine.csv"}
    assert study.explainability.reference == expected.get("".join(said), str(notes))


def test_other_data_has_no_public_notes(tmp_path: Path) -> None:
    files = make_demo_data(tmp_path, sites=1, patients=20)
    assert sources.public_notes("icu_notes", files) is None
    (tmp_path / "reference.csv").unlink()  # hospitals that an earlier version has made
    assert sources.public_notes("demo", files) is None

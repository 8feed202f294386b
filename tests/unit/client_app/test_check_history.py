"""What the site keeps of its checks: whole or not at all, for its own user alone, without anything of a note."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app.asked import Round
from client_app.reasons import check_history
from client_app.reasons.gates import Gate
from fedfm.errors import DataError
from fedfm.examples import Example
from fedfm.metrics.performance import Estimate
from tests.unit.client_app.test_releases import asked, site_of, study_of

DOCUMENTS = [Example("ZZPATIENT-1", 0, text="ZZPATIENT has a fever", row=4), Example("ZZPATIENT-2", 1, text="x", row=9)]
GATES = (
    Gate("faithfulness", True, Estimate(0.1, 0.05, 0.2), 0.0, "holds"),
    Gate("swap:sex", None, None, 0.02, "too few documents to say"),
)


def kept(state: Path, number: int, *, norms: tuple[float, ...] = (1.0,), run: str = "run-1") -> Round:
    question: Any = asked(study_of(), state=state, kind=Round, number=number)
    question = replace(question, request=replace(question.request, run=run))
    figures = {"comprehensiveness": np.array([0.1, float(number)])}
    check_history.keep(question, DOCUMENTS, figures, full=False, counts=True, gates=GATES, norms=norms)
    found: Round = question
    return found


def asked_in(state: Path, number: int) -> Round:
    found: Round = asked(study_of(), state=state, kind=Round, number=number)
    return found


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    kept(tmp_path, 1)
    found = check_history.last_before(asked_in(tmp_path, 3))
    assert found is not None
    assert (found.round, found.rows, found.gates, found.norms) == (1, (4, 9), GATES, (1.0,))
    assert found.figures == {"comprehensiveness": (0.1, 1.0)}
    assert found.keys == check_history.keys_of(DOCUMENTS)
    assert check_history.kept_checks(site_of(tmp_path)) == [found]


def test_the_last_round_before_this_one_counts_and_a_repeated_one_replaces_its_own(tmp_path: Path) -> None:
    for number in (1, 2, 2, 3):
        kept(tmp_path, number)
    assert check_history.last_before(asked_in(tmp_path, 1)) is None
    assert [getattr(check_history.last_before(asked_in(tmp_path, n)), "round", None) for n in (2, 3)] == [1, 2]
    assert [one.round for one in check_history.kept_checks(site_of(tmp_path))] == [1, 2, 3]
    kept(tmp_path, 1, run="run-2")
    assert len(list(tmp_path.glob("check-*.json"))) == 4


def test_only_the_trainers_user_may_read_it_and_no_note_or_identifier_is_in_it(tmp_path: Path) -> None:
    kept(tmp_path, 1)
    (path,) = tmp_path.glob("check-*")
    assert path.stat().st_mode & 0o777 == 0o600
    assert "ZZPATIENT" not in path.read_text()
    assert "fever" not in path.read_text()


def short(told: dict[str, Any]) -> str:
    return json.dumps(told)[:-20]


def other_documents(told: dict[str, Any]) -> str:
    return json.dumps(told | {"rows": [4]})


def no_gates(told: dict[str, Any]) -> str:
    return json.dumps(told | {"gates": [{"name": "x"}]})


def undefined(told: dict[str, Any]) -> str:
    return json.dumps(told | {"norms": [math.nan]})


@pytest.mark.parametrize("spoil", [short, other_documents, no_gates, undefined, lambda _: "[]", lambda _: "null"])
def test_a_damaged_file_is_said_and_the_check_begins_anew(
    spoil: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept(tmp_path, 1)
    (path,) = tmp_path.glob("check-*")
    kept(tmp_path, 2)
    later = next(one for one in tmp_path.glob("check-*") if one != path)
    later.write_text(spoil(json.loads(later.read_text())))
    found = check_history.last_before(asked_in(tmp_path, 3))
    assert found is not None
    assert found.round == 1  # the one before is whole
    assert f"{later.name} cannot be read" in caplog.text
    path.write_bytes(b"\xff\x00")
    assert check_history.last_before(asked_in(tmp_path, 3)) is None
    assert check_history.kept_checks(site_of(tmp_path)) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("client_app.own_files.os.fdopen", full)
    with pytest.raises(DataError, match=r"SITE-E163.*No space left"):
        kept(tmp_path, 1)

"""Files in the state folder that somebody has changed: left out or refused with a sentence, and obeyed in nothing."""

import hashlib
import json
import logging
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from client_app.reasons import check_history, checked_model
from client_app.reasons.check_tables import check_tables
from client_app.reasons.kept_json import is_of
from fedfm.arrays import to_bytes
from fedfm.config.compose import study_to_json
from fedfm.errors import DataError
from tests.unit.client_app.test_check_history import kept
from tests.unit.client_app.test_releases import site_of, study_of

HOSTILE = "\x1b[31mred\x1b]0;title\x07[bold]\r\n[/nope]\u202e\ud800"
DEEP = "[" * 100_000

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([10**400, HOSTILE]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a JSON tree, the whole included."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [at, *(path for name, value in inner for path in places(value, (*at, name)))]


def with_value(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = with_value(tree[path[0]], path[1:], value)
    return copy


def shown(state: Path) -> str:
    """Return what ``fedfm-site explain --checks`` prints."""
    screen = Console(file=StringIO(), width=300, force_terminal=False)
    for table in check_tables(check_history.kept_checks(site_of(state)), last=5):
        screen.print(table)
    told: Any = screen.file
    text: str = told.getvalue()
    text.encode()  # what is shown can be written
    return text


def steers(text: str) -> bool:
    return any((ord(c) < 32 and c != "\n") or c in "\u202e\x7f" for c in text)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=anything)
def test_any_value_in_any_field_is_shown_readably_or_left_out(data: st.DataObject, value: Any, tmp_path: Path) -> None:
    kept(tmp_path, 1)
    (path,) = tmp_path.glob("check-*.json")
    told = json.loads(path.read_text())
    path.write_text(json.dumps(with_value(told, data.draw(st.sampled_from(places(told))), value)))
    assert not steers(shown(tmp_path))


@pytest.mark.parametrize("field", ["study", "run", "time"])
def test_names_of_others_are_shown_on_one_line(field: str, tmp_path: Path) -> None:
    kept(tmp_path, 1)
    (path,) = tmp_path.glob("check-*.json")
    told = json.loads(path.read_text())
    gate = told["gates"][0] | {"name": HOSTILE, "reason": HOSTILE}
    lines = len(shown(tmp_path).splitlines())
    path.write_text(json.dumps(told | {field: HOSTILE, "gates": [gate, *told["gates"][1:]]}))
    text = shown(tmp_path)
    assert not steers(text)
    assert text.count("[bold] [/nope]") == 2 + (field != "time")  # as it is written, and not as Rich would take it
    assert len(text.splitlines()) == lines


@pytest.mark.parametrize(
    "changes",
    [
        {"round": "3"},
        {"round": True},
        {"round": 1.5},
        {"time": 7},
        {"rows": [4, "9"]},
        {"keys": "ab"},
        {"figures": {"comprehensiveness": ["0.1", "0.2"]}},
        {"figures": {"comprehensiveness": [0.1, 10**400]}},
        {"figures": []},
        {"gates": [{"name": "x", "passed": 1, "estimate": None, "limit": 0.0, "reason": ""}]},
        {"norms": {"1": 2}},
        {"more": 1},
    ],
    ids=str,
)
def test_a_wrong_type_leaves_the_check_out_and_says_so(
    changes: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept(tmp_path, 1)
    (path,) = tmp_path.glob("check-*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert check_history.kept_checks(site_of(tmp_path)) == []
    assert f"{path.name} cannot be read" in caplog.text


def test_a_file_of_many_brackets_or_of_a_steering_name_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "check-\x1b[31m\nall is well.json").write_text(DEEP)
    (tmp_path / "check-folder.json").mkdir()
    with caplog.at_level(logging.WARNING):
        assert check_history.kept_checks(site_of(tmp_path)) == []
    said = sorted(record.getMessage() for record in caplog.records)
    assert len(said) == 2
    assert said[1].startswith("check-�[31m all is well.json cannot be read")


def model_file(state: Path, header: str, *, name: str = "checked-1.model") -> None:
    (state / name).write_bytes(header.encode(errors="surrogatepass") + b"\n" + to_bytes({}))


def header() -> dict[str, Any]:
    digest = hashlib.sha256(to_bytes({})).hexdigest()
    return {"time": "2026-01-01", "run": "r", "round": 1, "study": study_to_json(study_of()), "sha256": digest}


def test_a_whole_model_is_read(tmp_path: Path) -> None:
    model_file(tmp_path, json.dumps(header()))
    assert checked_model.last(site_of(tmp_path)).run == "r"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=anything)
def test_any_value_in_a_models_first_line_is_read_or_refused(data: st.DataObject, value: Any, tmp_path: Path) -> None:
    told = header()
    model_file(tmp_path, json.dumps(with_value(told, data.draw(st.sampled_from(places(told))), value)))
    try:
        found = checked_model.last(site_of(tmp_path))
    except DataError as error:
        assert error.code == "SITE-E171"  # noqa: PT017 - either may happen
    else:
        assert isinstance(found.round, int)
        assert isinstance(found.time[:10], str)


@pytest.mark.parametrize("line", [DEEP, "[]", json.dumps(header() | {"study": DEEP}), json.dumps({"run": 1}), "\ud800"])
def test_a_models_first_line_that_is_none_is_refused(line: str, tmp_path: Path) -> None:
    model_file(tmp_path, line, name="checked-\x1b[31m.model")
    with pytest.raises(DataError, match="SITE-E171") as caught:
        checked_model.last(site_of(tmp_path))
    assert not steers(str(caught.value))


@given(anything)
def test_a_kind_takes_its_own_and_nothing_else(value: Any) -> None:
    assert is_of(value, bool) == (value is True or value is False)
    assert is_of([value], [type(value)]) == (not isinstance(value, float) or is_of(value, float))
    assert is_of({"a": value, "b": 1}, {"a": type(value)}) is False
    assert is_of({}, {"a": int}) is False


@pytest.mark.parametrize("value", [1.7e308, 10**308, -(10**308)])
@pytest.mark.parametrize("at", [("norms", 0), ("figures", "comprehensiveness", 0), ("gates", 0, "limit")])
def test_numbers_that_no_figure_is_as_large_as_leave_the_check_out(
    at: tuple[Any, ...], value: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Sums of them would not be finite, and the round that compares itself with this check could not be kept."""
    kept(tmp_path, 1, norms=(1.0,))
    (path,) = tmp_path.glob("check-*")
    path.write_text(json.dumps(with_value(json.loads(path.read_text()), at, value)))
    assert check_history.kept_checks(site_of(tmp_path)) == []
    assert "cannot be read" in caplog.text


def test_whole_numbers_in_a_file_are_read_as_floats(tmp_path: Path) -> None:
    kept(tmp_path, 1, norms=(1.0,))
    (path,) = tmp_path.glob("check-*")
    path.write_text(json.dumps(with_value(json.loads(path.read_text()), ("norms", 0), 10**20)))
    (found,) = check_history.kept_checks(site_of(tmp_path))
    assert isinstance(found.norms[0], float)


def test_a_link_to_nothing_is_refused_like_a_damaged_model(tmp_path: Path) -> None:
    (tmp_path / f"checked-{'0' * 16}.model").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match="SITE-E171"):
        checked_model.last(site_of(tmp_path))

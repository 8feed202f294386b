"""A trainer in the ClientApp's own process has the boundary of one behind a socket: what leaves is hidden alike."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from flwr.supercore.task_identity import TaskIdentity

from client_app import app
from client_app.audit_log import FILE, AuditLog
from client_app.trainer import connect as module
from client_app.trainer.connect import connect
from fedfm.arrays import Arrays
from fedfm.errors import FedFMError
from fedfm.wire_records import request_to_records
from tests.integration.boundary import START
from tests.integration.conftest import CANARY, request, write_hospital

Ask = Callable[[Path, Arrays], str]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("run_id", "node_id", "task_id"):
        monkeypatch.setattr(TaskIdentity, f"_{name}", 1)
    module._in_process.cache_clear()
    yield
    module._in_process.cache_clear()


def told(node_config: dict[str, object], parameters: Arrays, round_: int = 0) -> str:
    """What the ClientApp sends the coordinator: the text of its error, or nothing."""
    name = "train" if parameters else "query.describe"
    sent = Message(request_to_records(request(round_, parameters)), dst_node_id=1, message_type=name)
    context: Any = type("Context", (), {"node_config": node_config})()
    answer = app.train if parameters else app.describe
    reply = app._answer(sent, context, lambda trainer, asked: _records(trainer, asked, training=bool(parameters)))
    assert answer is not None
    return reply.error.reason if reply.has_error() else ""


def _records(trainer: Any, asked: Any, *, training: bool) -> Any:
    from fedfm import wire_records  # noqa: PLC0415

    if training:
        return wire_records.train_reply_to_records(trainer.train(asked))
    return wire_records.description_to_records(trainer.describe(asked))


@pytest.fixture(params=["socket", "in process"])
def way(request: pytest.FixtureRequest, serve_here: Callable[[Path], Path]) -> Callable[[Path], dict[str, object]]:
    def node_config(site_file: Path) -> dict[str, object]:
        if request.param == "socket":
            return {"trainer-socket": str(serve_here(site_file))}
        return {"site-config": str(site_file)}

    return node_config


def spoilt(folder: Path, what: str) -> Path:
    site_file = write_hospital(folder / f"{CANARY} ward")
    table = site_file.parent / "cohort.csv"
    if what == "column":
        table.write_text(table.read_text().replace(f"{CANARY}-mrn", "other", 1))
    elif what == "file":
        table.rename(table.with_name(f"{CANARY}.csv"))
        site_file.write_text(site_file.read_text().replace("path: cohort.csv", f"path: {CANARY}-gone.csv"))
    elif what == "ledger":
        ledger = site_file.parent / "state" / f"ledger-{CANARY.lower()}.jsonl"
        ledger.parent.mkdir()
        ledger.write_text("{}\n")
        site_file.write_text(f"cohort: {CANARY.lower()}\n{site_file.read_text()}")
    elif what == "unreadable":
        (site_file.parent / "state" / "ledger-hospital-a.jsonl").mkdir(parents=True)
    return site_file


@pytest.mark.parametrize(
    ("what", "code"),
    [("column", "SITE-E014"), ("file", "SITE-E011"), ("ledger", "SITE-E115"), ("unreadable", "SITE-E150")],
)
def test_neither_way_tells_a_word_or_a_path_of_the_hospital(
    tmp_path: Path, way: Callable[[Path], dict[str, object]], what: str, code: str
) -> None:
    text = told(way(spoilt(tmp_path, what)), {})
    assert text.startswith(code)
    assert CANARY.lower() not in text.lower()
    assert str(tmp_path) not in text


def test_both_ways_answer_and_write_down_the_same(tmp_path: Path, way: Callable[[Path], dict[str, object]]) -> None:
    site_file = write_hospital(tmp_path / "a")
    config = way(site_file)
    described = connect(config).describe(request(0, {}))
    assert (described.site, described.privacy.audit_entries) == ("hospital-a", 1)
    trained = connect(config).train(request(1, START))
    assert set(trained.update) == set(START)
    kinds = [(entry["direction"], entry["kind"]) for entry in AuditLog(tmp_path / "a" / "state").entries()]
    assert kinds == [
        ("entered", "Describe"),
        ("left", "DescribeAnswer"),
        ("entered", "Train"),
        ("left", "TrainAnswer"),
    ]
    assert CANARY not in (tmp_path / "a" / "state" / FILE).read_text()


def test_both_ways_refuse_what_the_form_of_a_request_forbids(
    tmp_path: Path, way: Callable[[Path], dict[str, object]]
) -> None:
    """Not only the words: fields, sizes and heads are judged on either way."""
    with pytest.raises(FedFMError, match="SITE-E138"):
        connect(way(write_hospital(tmp_path / "a"))).describe(request(0, START))


@pytest.mark.parametrize("spoil", ["yaml", "setting", "gone"])
def test_of_a_site_file_that_cannot_be_used_only_codes_leave(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: str
) -> None:
    site_file = write_hospital(tmp_path / CANARY)
    if spoil == "yaml":
        site_file.write_text(f"id: [{CANARY}")
    elif spoil == "setting":
        site_file.write_text(site_file.read_text() + f"{CANARY}_x: 1\ndevice: {CANARY}\n")
    else:
        site_file.unlink()
    with caplog.at_level(logging.ERROR):
        text = told({"site-config": str(site_file)}, {})
    assert text.startswith("SITE-E155 the site file cannot be used")
    assert "SITE-E0" in text
    assert CANARY not in text
    assert str(site_file) in caplog.text


def test_the_path_of_a_socket_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_READY_SECONDS", 0.2)
    path = tmp_path / f"{CANARY}.sock"
    text = told({"trainer-socket": str(path)}, {})
    assert text.startswith("SITE-E153")
    assert str(tmp_path) not in text
    assert str(path) in caplog.text
    assert json.dumps(text)

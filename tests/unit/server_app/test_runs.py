"""A run is followed to its end, over a SuperLink that is away for a while; reports are served read only."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from flwr.proto.control_pb2 import ListRunsRequest, StreamLogsRequest

from fedfm.errors import EngineError
from server_app import runs
from server_app.report.server import make_server

RUN = 7


class Control:
    """Answers like a SuperLink: away at the moments ``away``, finished after ``rounds`` questions."""

    def __init__(self, *, away: tuple[int, ...] = (), rounds: int = 3, how: str = "completed") -> None:
        self.asked, self.away, self.rounds, self.how = 0, away, rounds, how

    def ListRuns(self, request: ListRunsRequest) -> SimpleNamespace:  # noqa: N802
        self.asked += 1
        if self.asked in self.away:
            raise httpx.ConnectError("gone")
        is_over = self.asked >= self.rounds
        status = SimpleNamespace(status="finished" if is_over else "running", sub_status=self.how, details="")
        return SimpleNamespace(run_dict={RUN: SimpleNamespace(status=status)})

    def StreamLogs(self, request: StreamLogsRequest) -> Iterator[SimpleNamespace]:  # noqa: N802
        yield SimpleNamespace(log_output=f"after {request.after_timestamp:.0f};", latest_timestamp=self.asked)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs.time, "sleep", lambda seconds: None)


@pytest.mark.parametrize("how", ["completed", "failed"])
def test_a_run_is_followed_to_its_end_and_nothing_of_its_log_twice(how: str) -> None:
    said: list[str] = []
    status = runs.follow(Control(away=(2,), how=how), RUN, said.append)  # type: ignore[arg-type]
    assert status.finished
    assert status.completed == (how == "completed")
    assert said == ["after 0;", "after 1;"]


def test_a_superlink_that_stays_away_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(runs.time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(EngineError, match="ENGINE-E141"):
        runs.follow(Control(away=tuple(range(100))), RUN, print)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("how", "rounds", "expected"), [("completed", 1, True), ("failed", 1, False), ("completed", 9, False)]
)
def test_only_a_completed_run_counts_as_one(how: str, rounds: int, expected: bool) -> None:
    assert runs.has_completed(Control(how=how, rounds=rounds)) == expected  # type: ignore[arg-type]


def test_reports_are_served_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "20260101-000000-demo"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<h1>verdict</h1>")
    (tmp_path / "results" / "latest").symlink_to(folder.name)
    (tmp_path / "secret").write_text("no")
    with make_server(tmp_path / "results", host="127.0.0.1", port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        with urllib.request.urlopen(f"{address}/", timeout=5) as page:
            assert page.read() == b"<h1>verdict</h1>"
            assert page.url == f"{address}/latest/report.html"
            assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        for path in ("/latest/", "/latest", "/../secret", "/%2e%2e/secret", "/nowhere"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{address}{path}", timeout=5)
        with pytest.raises(EngineError, match="ENGINE-E110"):
            make_server(tmp_path, host="127.0.0.1", port=int(server.server_address[1]))
        server.shutdown()

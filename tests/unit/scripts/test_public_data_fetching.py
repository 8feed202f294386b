"""Downloading: whole and unaltered, or not at all."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scripts.public_data import fetching
from scripts.public_data.fetching import FetchError, PublicFile, check_folder, download

CONTENT = b"patients\n" * 1000
SUM = hashlib.sha256(CONTENT).hexdigest()


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves a folder without writing a log, and counts what it is asked for."""

    asked: list[str]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/weak":
            self.send_error(503)
            return
        super().do_GET()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[str]:
    """Address of a server of ``tmp_path/home``."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "table.csv").write_bytes(CONTENT)
    QuietHandler.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_is_downloaded_once(home: str, tmp_path: Path) -> None:
    file = PublicFile("sub/table.csv", f"{home}table.csv", SUM)
    download([file], tmp_path / "raw")
    download([file], tmp_path / "raw")
    assert (tmp_path / "raw/sub/table.csv").read_bytes() == CONTENT
    assert QuietHandler.asked == ["/table.csv"]


def test_an_altered_copy_is_downloaded_again(home: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"altered")
    download([PublicFile("table.csv", f"{home}table.csv", SUM)], tmp_path)
    assert (tmp_path / "table.csv").read_bytes() == CONTENT


def test_another_file_than_expected_is_refused_and_leaves_nothing(home: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"table\.csv is not the expected file"):
        download([PublicFile("table.csv", f"{home}table.csv", "0" * 64)], tmp_path / "raw")
    assert list((tmp_path / "raw").iterdir()) == []


def test_a_missing_file_is_refused_at_once(home: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="status 404"):
        download([PublicFile("none.csv", f"{home}none.csv", SUM)], tmp_path)
    assert QuietHandler.asked == ["/none.csv"]


def test_a_weak_server_is_asked_again(home: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="status 503"):
        download([PublicFile("weak", f"{home}weak", SUM)], tmp_path)
    assert QuietHandler.asked == ["/weak"] * fetching.TRIES


def test_a_home_that_does_not_answer_is_named(home: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"127\.0\.0\.1:1/table\.csv could not be downloaded"):
        download([PublicFile("table.csv", "http://127.0.0.1:1/table.csv", SUM)], tmp_path)


def test_the_publishers_own_list_of_sums_is_used(home: str, tmp_path: Path) -> None:
    (tmp_path / "home/SHA256SUMS.txt").write_text(f"{'1' * 64} other.csv\n{SUM} table.csv\n")
    sums = f"{home}SHA256SUMS.txt"
    download([PublicFile("table.csv", f"{home}table.csv", sums_url=sums)], tmp_path / "raw")
    assert (tmp_path / "raw/table.csv").read_bytes() == CONTENT
    (tmp_path / "home/SHA256SUMS.txt").write_text(f"{'1' * 64} table.csv\n")
    with pytest.raises(FetchError, match="not the expected file"):
        download([PublicFile("table.csv", f"{home}table.csv", sums_url=sums)], tmp_path / "new")
    (tmp_path / "home/SHA256SUMS.txt").write_text("nothing\n")
    with pytest.raises(FetchError, match="lists no checksum"):
        download([PublicFile("table.csv", f"{home}table.csv", sums_url=sums)], tmp_path / "new")


def test_a_folder_is_checked(tmp_path: Path) -> None:
    file = PublicFile("table.csv", sha256=SUM)
    with pytest.raises(FetchError, match="is missing"):
        check_folder([file], tmp_path)
    (tmp_path / "table.csv").write_bytes(b"altered")
    with pytest.raises(FetchError, match="not the expected file"):
        check_folder([file], tmp_path)
    (tmp_path / "table.csv").write_bytes(CONTENT)
    check_folder([file], tmp_path)

"""``python -m fedfm.health``: 0 where a program answers, 1 where none does."""

import socket
from pathlib import Path

import pytest

from fedfm.health import main


def test_what_listens_is_healthy_and_what_does_not_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "a.sock")
    with socket.create_server(("127.0.0.1", 0)) as over_tcp, socket.socket(socket.AF_UNIX) as over_unix:
        over_unix.bind(path)
        over_unix.listen()
        address = f"127.0.0.1:{over_tcp.getsockname()[1]}"
        assert main(["tcp", address, "unix", path]) == 0
    assert main(["unix", path]) == 1
    assert main(["tcp", address]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"unix {path} does not answer")
    assert said[1].startswith(f"tcp {address} does not answer")

"""Every entry point goes offline before anything reads the environment, and no command connects to anything."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedfm.offline import NO_HUB, NO_REPORTS, go_offline
from tests.integration.conftest import write_hospital

WATCH = """
import os, sys
def watch(event, args):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.connect"):
        if not (event == "socket.connect" and isinstance(args[1], (str, bytes))):  # those are unix sockets
            os.write(2, f"{event} {args[1:]}\\n".encode())
            os._exit(99)
sys.addaudithook(watch)
"""
ENTRY_POINTS = (
    "client_app.cli",
    "server_app.cli",
    "scripts.engine.__main__",
    pytest.param("client_app.trainer.__main__", marks=pytest.mark.slow),
    pytest.param("server_app.app", marks=pytest.mark.slow),
)


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter; it knows nothing of what this one has set."""
    clean = {name: value for name, value in os.environ.items() if name not in NO_HUB | NO_REPORTS}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=False)


def test_what_stood_there_is_overruled() -> None:
    environment = {"FLWR_TELEMETRY_ENABLED": "1", "HF_HUB_OFFLINE": "0", "PATH": "/bin"}
    go_offline(environment)
    assert environment == {**NO_REPORTS, **NO_HUB, "PATH": "/bin"}


@pytest.mark.parametrize(("asked", "reachable"), [("1", True), ("0", False), ("", False)])
def test_only_a_download_that_is_asked_for_reaches_the_hub(asked: str, reachable: bool) -> None:
    environment = {"FEDFM_HUB_DOWNLOAD": asked}
    go_offline(environment)
    assert ("HF_HUB_OFFLINE" not in environment) == reachable
    assert environment.items() >= NO_REPORTS.items()


@pytest.mark.parametrize("module", ENTRY_POINTS)
def test_an_entry_point_is_offline_once_it_is_imported(module: str) -> None:
    code = f"""
import json, sys, {module}
read = {{name: getattr(sys.modules[where], name) for where, name in (
    ("huggingface_hub.constants", "HF_HUB_OFFLINE"), ("huggingface_hub.constants", "HF_HUB_DISABLE_TELEMETRY"),
    ("flwr.supercore.telemetry", "FLWR_TELEMETRY_ENABLED")) if where in sys.modules}}
print(json.dumps(read))
"""
    done = python(code, FLWR_TELEMETRY_ENABLED="1") if module != "server_app.app" else python(code)
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    if module == "server_app.app":  # Flower has read its own before it imports the app; whoever starts it sets them
        read.pop("FLWR_TELEMETRY_ENABLED")
    expected = {"HF_HUB_OFFLINE": True, "HF_HUB_DISABLE_TELEMETRY": True, "FLWR_TELEMETRY_ENABLED": "0"}
    assert read == {name: expected[name] for name in read}
    assert len(read) >= (0 if module == "client_app.cli" else 1)


def test_the_watch_sees_a_connection() -> None:
    for call in ("urlopen('http://192.0.2.1/')", "urlopen('http://localhost:9/')"):
        done = python(f"{WATCH}\nfrom urllib.request import urlopen\n{call}")
        assert done.returncode == 99, done.stderr


def test_no_command_connects(tmp_path: Path) -> None:
    site_file = str(write_hospital(tmp_path))
    commands = [
        ("client_app.cli", "check", site_file),
        ("client_app.cli", "budget", site_file),
        ("client_app.cli", "audit", "verify", site_file),
        ("server_app.cli", "config", "rounds=3"),
        ("server_app.cli", "settings", "privacy.epsilon"),
        ("server_app.cli", "certificates", str(tmp_path / "certificates")),
    ]
    code = f"""{WATCH}
import importlib, json
for module, *arguments in json.loads(sys.argv[1]):
    try:
        importlib.import_module(module).app(arguments, standalone_mode=False)
    except SystemExit as end:
        assert not end.code, arguments
    print("DONE", arguments[0])
"""
    done = python(code, json.dumps(commands))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("DONE") == len(commands)

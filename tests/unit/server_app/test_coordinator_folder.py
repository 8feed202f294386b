"""``fedfm-study init``: a coordinator's folder, whole or not at all."""

import os
import stat
import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from typer.testing import CliRunner

from server_app.cli import app
from server_app.coordinator_folder import write_coordinator


def test_a_folder_is_made_that_compose_can_start_from(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["init", str(tmp_path / "co"), "fl.example.org", "203.0.113.7", "--port", "19092"])
    assert done.exit_code == 0, done.output
    names = {str(path.relative_to(tmp_path / "co")) for path in (tmp_path / "co").rglob("*")}
    files = {"certificates/ca.crt", "certificates/server.pem", "certificates/server.key", "superexec.secret", ".env"}
    assert names == files | {"certificates", "hospitals", "weights", "public"}
    assert "FEDFM_PORT=19092" in (tmp_path / "co" / ".env").read_text()
    certificate = x509.load_pem_x509_certificate((tmp_path / "co" / "certificates" / "server.pem").read_bytes())
    hosts = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert hosts.get_values_for_type(x509.DNSName) == ["fl.example.org", "control"]
    assert hosts.get_values_for_type(x509.IPAddress) == [ip_address("203.0.113.7")]


def test_what_is_private_is_for_the_superlink(tmp_path: Path) -> None:
    made = write_coordinator(tmp_path / "co", ["fl.example.org"], port=9092)
    key, secret = (tmp_path / "co" / "certificates" / "server.key").stat(), (tmp_path / "co/superexec.secret").stat()
    assert stat.S_IMODE(key.st_mode) == 0o400
    assert stat.S_IMODE(secret.st_mode) == 0o440
    assert made.owned == (os.geteuid() == 0)
    if made.owned:
        assert {(each.st_uid, each.st_gid) for each in (key, secret)} == {(10004, 10000)}
    text = made.authority.read_bytes()
    (read,) = x509.load_pem_x509_certificates(text)
    assert bytes.fromhex(made.fingerprint.replace(":", "")) == read.fingerprint(hashes.SHA256())


def test_the_modes_are_the_same_whatever_the_umask(tmp_path: Path) -> None:
    found = []
    for umask in (0o022, 0o077, 0):
        folder = tmp_path / f"{umask:o}"
        before = os.umask(umask)
        try:
            write_coordinator(folder, ["fl.example.org"], port=9092)
        finally:
            os.umask(before)
        paths = [folder, *folder.rglob("*")]
        found.append({str(path.relative_to(folder)): oct(stat.S_IMODE(path.stat().st_mode)) for path in paths})
    assert found[0] == found[1] == found[2]
    private = {"certificates/server.key": "0o400", "superexec.secret": "0o440"}
    opened = dict.fromkeys((".env", "certificates/ca.crt", "certificates/server.pem"), "0o644")
    folders = dict.fromkeys((".", "certificates", "hospitals", "weights", "public"), "0o755")
    assert found[0] == private | opened | folders


def test_the_fingerprint_is_the_one_that_openssl_says(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["init", str(tmp_path / "co"), "fl.example.org"])
    openssl = ["openssl", "x509", "-in", str(tmp_path / "co/certificates/ca.crt"), "-noout", "-fingerprint", "-sha256"]
    said = subprocess.run(openssl, capture_output=True, text=True, check=True).stdout
    assert said.strip().partition("=")[2] in done.output


@pytest.mark.parametrize("there", ["file", "folder"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    folder = tmp_path / "co"
    if there == "file":
        folder.write_text("mine")
    else:
        folder.mkdir()
        (folder / "mine").write_text("mine")
    done = CliRunner().invoke(app, ["init", str(folder), "fl.example.org"])
    assert done.exit_code == 2
    assert done.stderr.startswith("STUDY-E089")
    assert {path.name for path in tmp_path.iterdir()} == {"co"}
    assert (folder if there == "file" else folder / "mine").read_text() == "mine"

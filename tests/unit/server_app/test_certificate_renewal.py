"""Certificates are renewed in two steps, so that no hospital is ever locked out and nothing is lost."""

import os
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from fedfm.certificates import fingerprint_of, hosts_of, key_file_flaws, read_certificates
from fedfm.errors import EngineError
from server_app import certificates
from server_app.certificates import Certificates, files_of, make_certificates, next_files_of, renew, switch
from server_app.cli import app

ECHO = "/test.Echo/Say"


@contextmanager
def serving(made: Certificates) -> Iterator[str]:
    """Serve gRPC over TLS as a SuperLink does, and give the address."""
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    handler = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Say": handler}),))
    pair = (made.server_key.read_bytes(), made.server.read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials((pair,)))
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def accepts(address: str, bundle: bytes) -> bool:
    """Tell whether a client that trusts ``bundle`` gets an answer over gRPC, and over OpenSSL alike."""
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(bundle)) as channel:
        try:
            over_grpc = channel.unary_unary(ECHO)(b"hello", timeout=3) == b"hello"
        except grpc.RpcError:
            over_grpc = False
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cadata=bundle.decode())
    try:
        with (
            socket.create_connection((host, int(port)), timeout=3) as raw,
            context.wrap_socket(raw, server_hostname=host),
        ):
            over_openssl = True
    except ssl.SSLCertVerificationError:
        over_openssl = False
    assert over_grpc == over_openssl
    return over_grpc


def test_a_hospital_with_the_bundle_accepts_the_coordinator_before_and_after_the_switch(tmp_path: Path) -> None:
    old = make_certificates(tmp_path).authority.read_bytes()
    coming = renew(tmp_path)
    bundle = coming.authority.read_bytes()
    with serving(files_of(tmp_path)) as before, serving(coming) as after:
        assert [accepts(before, old), accepts(before, bundle)] == [True, True]
        assert [accepts(after, old), accepts(after, bundle)] == [False, True]
    with serving(switch(tmp_path)) as switched:
        assert [accepts(switched, old), accepts(switched, bundle)] == [False, True]


def test_the_coordinator_keeps_its_certificate_until_the_switch(tmp_path: Path) -> None:
    used = make_certificates(tmp_path, ["one.example.org", "203.0.113.7"])
    before = used.server.read_bytes(), used.server_key.read_bytes()
    coming = renew(tmp_path)
    assert (used.server.read_bytes(), used.server_key.read_bytes()) == before
    assert hosts_of(read_certificates(coming.server)[0]) == ["one.example.org", "203.0.113.7"]
    switch(tmp_path)
    assert used.server.read_bytes() != before[0]
    assert [*key_file_flaws(used.server_key, read_certificates(used.server)[0])] == []
    kept = {path.read_bytes() for path in (tmp_path / "former").iterdir()}
    assert set(before) <= kept
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "former").iterdir()} == {0o600}
    assert {path.name for path in tmp_path.iterdir()} == {"ca.crt", "server.pem", "server.key", "former"}


def test_a_renewal_names_other_hosts_where_told_to(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    assert hosts_of(read_certificates(renew(tmp_path, ["new.example.org"]).server)[0]) == ["new.example.org"]


def test_the_name_inside_the_coordinators_containers_outlives_new_hosts(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["one.example.org", "control"])
    assert hosts_of(read_certificates(renew(tmp_path, ["new.example.org"]).server)[0]) == ["new.example.org", "control"]


def test_an_authority_that_is_over_leaves_the_bundle_with_the_next_renewal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(certificates, "VALID", timedelta(seconds=1))
        first = read_certificates(make_certificates(tmp_path).authority)[0]
    threading.Event().wait(max(0.0, (first.not_valid_after_utc - datetime.now(UTC)).total_seconds()) + 0.1)
    renew(tmp_path)
    switch(tmp_path)
    renew(tmp_path)
    found = read_certificates(tmp_path / "ca.crt")
    assert len(found) == 2
    assert first not in found


def test_what_cannot_be_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="there is no certificate"):
        renew(tmp_path)
    make_certificates(tmp_path)
    with pytest.raises(EngineError, match="no renewal waits"):
        switch(tmp_path)
    renew(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(EngineError, match="waits already"):
        renew(tmp_path)
    (tmp_path / "ca.crt").write_bytes(make_certificates(tmp_path / "other").authority.read_bytes())
    with pytest.raises(EngineError, match="does not hold the authority"):
        switch(tmp_path)
    (tmp_path / "ca.crt").write_bytes(before[tmp_path / "ca.crt"])
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_next_key_belongs_to_whom_the_old_one_does(tmp_path: Path) -> None:
    used = make_certificates(tmp_path)
    os.chown(used.server_key, 10004, 10000)
    used.server_key.chmod(0o440)
    renew(tmp_path)
    switch(tmp_path)
    found = used.server_key.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (10004, 10000, 0o440)


def test_the_superlinks_user_reads_what_root_has_renewed_under_a_narrow_umask(tmp_path: Path) -> None:
    used = make_certificates(tmp_path)
    before = os.umask(0o077)
    try:
        renew(tmp_path)
        switch(tmp_path)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (used.authority, used.server)] == [0o644, 0o644]


def test_a_key_of_another_user_is_not_renewed_by_one_who_may_not_give_it_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = make_certificates(tmp_path).authority.read_bytes()
    monkeypatch.setattr(certificates.os, "geteuid", lambda: 54321)
    with pytest.raises(EngineError, match="belongs to another user"):
        renew(tmp_path)
    assert (tmp_path / "ca.crt").read_bytes() == authority
    monkeypatch.undo()
    renew(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(certificates.os, "geteuid", lambda: 54321)
    with pytest.raises(EngineError, match="belongs to another user"):
        switch(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("step", ["bundle", "folder"])
def test_a_renewal_that_is_cut_short_can_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    old = make_certificates(tmp_path).authority.read_bytes()
    wanted = {"bundle": "_keep", "folder": "_give_to_owner_of"}[step]  # the second after the key is written
    with monkeypatch.context() as patch:
        patch.setattr(certificates, wanted, lambda *_: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space"):
            renew(tmp_path)
    assert old in (tmp_path / "ca.crt").read_bytes()
    assert [*tmp_path.glob("next*")] == [], "no key is left behind"
    killed = tmp_path / "next-abcdefgh"
    killed.mkdir()
    (killed / "server.key").write_text("a key of a renewal that was killed")
    coming = renew(tmp_path)
    assert [path.name for path in tmp_path.glob("next*")] == ["next"]
    with serving(coming) as after:
        assert accepts(after, coming.authority.read_bytes())


def test_a_switch_that_is_cut_short_is_finished_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_certificates(tmp_path)
    coming = next_files_of(tmp_path)
    renew(tmp_path)
    real = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if path == coming.server:
            raise OSError("no space left")
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(OSError, match="no space"):
            switch(tmp_path)
    flaws = [*key_file_flaws(made.server_key, read_certificates(made.server)[0])]
    assert [flaw.kind for flaw in flaws] == ["key_mismatch"]
    used = switch(tmp_path)
    assert [*key_file_flaws(used.server_key, read_certificates(used.server)[0])] == []


def test_the_command_says_what_to_send_and_what_comes_next(tmp_path: Path) -> None:
    say = CliRunner().invoke
    assert say(app, ["certificates", str(tmp_path), "fl.example.org"]).exit_code == 0
    renewed = say(app, ["certificates", str(tmp_path), "--renew"])
    assert renewed.exit_code == 0
    assert str(tmp_path / "ca.crt") in renewed.output
    newer, older = read_certificates(tmp_path / "ca.crt")
    assert fingerprint_of(newer) in renewed.output
    assert fingerprint_of(older) not in renewed.output
    assert "--switch" in renewed.output
    assert say(app, ["certificates", str(tmp_path), "--switch", "--renew"]).exit_code == 2
    assert say(app, ["certificates", str(tmp_path), "--switch"]).exit_code == 0
    again = say(app, ["certificates", str(tmp_path), "--switch"])
    assert again.exit_code == 1
    assert "ENGINE-E107" in again.output

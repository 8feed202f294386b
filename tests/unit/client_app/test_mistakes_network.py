"""The mistakes with certificates, keys, addresses, clocks and proxies: each is told from all others, by its code.

Numbers are those of the list of forty mistakes; 27 to 34 and 39 belong here. Against real TLS servers on loopback, and
Flower's own Fleet API in this process.
"""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client_app.doctor import coordinator, keys, network
from client_app.doctor.fleet import Fleet
from client_app.keys import make_node_key
from fedfm.config.site import Network
from tests import superlink, tls
from tests.tls import DAY
from tests.unit.client_app.joined import GOOD, STUDY, Hospital, admitted, codes, look


@pytest.fixture(scope="module")
def served() -> Iterator[superlink.Served]:
    with superlink.fleet(GOOD) as started:
        yield started


@pytest.fixture
def hospital(tmp_path: Path, served: superlink.Served) -> Hospital:
    return admitted(tmp_path, served)


def test_a_hospital_that_has_done_everything_right_passes(hospital: Hospital) -> None:
    found = look(hospital)
    assert {finding.status for finding in found} == {"pass"}
    assert [finding.check for finding in found] == [
        *("authority", "node key", "address", "proxy", "connection", "TLS", "certificate", "HTTP/2"),
        *("clock", "registered", "admission", "online"),
    ]


SHOWN: dict[str, tuple[tls.Signed, str]] = {
    "27 expired": (tls.server(STUDY, begins=-9 * DAY, ends=-DAY), "SITE-E120"),
    "28 for another host": (tls.server(STUDY, ["other.example"]), "SITE-E121"),
    "29 from another authority": (tls.server(tls.authority()), "SITE-E122"),
    "29 signed by itself": (tls.alone("coordinator"), "SITE-E122"),
    "33 not yet valid, so that the clock is wrong": (tls.server(STUDY, begins=DAY), "SITE-E148"),
    "34 a proxy inspects TLS": (tls.server(tls.authority("Hospital Proxy CA")), "SITE-E128"),
}


@pytest.mark.parametrize("mistake", SHOWN)
def test_each_certificate_that_is_refused_has_its_own_reason(hospital: Hospital, mistake: str) -> None:
    shown, code = SHOWN[mistake]
    with tls.tls_server(shown, hospital.folder / "server") as address:
        found = [*network.checks(hospital.at(address), hospital.folder, {})]
    assert codes(found) == [code]
    (finding,) = [each for each in found if each.code]
    assert finding.fix
    assert {"E120": "expired on", "E121": "for other.example", "E128": "'Hospital Proxy CA'"}.get(
        code[-4:], ""
    ) in finding.what


@pytest.mark.parametrize("mistake", SHOWN)
def test_the_fleet_api_is_not_asked_where_tls_fails(hospital: Hospital, mistake: str) -> None:
    shown, _ = SHOWN[mistake]
    with superlink.fleet(shown) as other:
        found = [*coordinator.checks(hospital.at(other.address), hospital.folder)]
    assert [finding.status for finding in found] == ["skip"]


def test_27_a_certificate_that_soon_expires_is_a_warning(hospital: Hospital) -> None:
    with tls.tls_server(tls.server(STUDY, ends=12 * DAY), hospital.folder / "server") as address:
        found = [*network.checks(hospital.at(address), hospital.folder, {})]
    assert (codes(found), codes(found, of="warn")) == ([], ["SITE-W120"])


def test_27_an_authority_that_is_over_is_told_from_a_certificate_that_is(hospital: Hospital) -> None:
    over = tls.authority(begins=-9 * DAY, ends=-DAY)
    (hospital.folder / "ca.crt").write_bytes(over.pem)
    with tls.tls_server(tls.server(over), hospital.folder / "server") as address:
        found = look(hospital, hospital.at(address))
    assert codes(found) == ["SITE-E120", "SITE-E120"]
    assert all("fedfm authority" in finding.what for finding in found if finding.status == "fail")


def test_30_a_key_that_is_not_the_pairs_or_not_private(hospital: Hospital) -> None:
    key = hospital.folder / "node.key"
    key.chmod(0o644)
    assert codes([*keys.checks(hospital.network, hospital.folder)]) == ["SITE-E124"]
    key.chmod(0o600)
    shutil.copy(make_node_key(hospital.folder / "another"), hospital.folder / "node.key.pub")
    assert codes([*keys.checks(hospital.network, hospital.folder)]) == ["SITE-E123"]


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"])
def test_30_a_key_that_is_not_there_or_of_another_format(hospital: Hospital, content: bytes | None) -> None:
    for name in ("node.key", "ca.crt"):
        (hospital.folder / name).unlink()
        if content is not None:
            (hospital.folder / name).write_bytes(content)
            (hospital.folder / name).chmod(0o600)
    found = [*keys.checks(hospital.network, hospital.folder)]
    assert codes(found) == ["SITE-E149", "SITE-E149"]


def test_31_a_key_that_is_not_registered(hospital: Hospital) -> None:
    make_node_key(hospital.folder / "stranger.key")
    found = look(hospital, replace(hospital.network, node_key="stranger.key"))
    assert codes(found) == ["SITE-E125"]
    (finding,) = [each for each in found if each.code]
    key = keys.read_node_key(hospital.folder / "stranger.key")
    assert keys.name_of_key(key.public_key()) in finding.what


@pytest.mark.parametrize(
    "text",
    [
        "https://fl.example.org:9092",
        "fl.example.org",
        "fl.example.org:",
        ":9092",
        "fl:0",
        "fl:99999",
        "::1:80",
        "fl:9o92",
    ],
)
def test_32_an_address_with_a_scheme_or_without_a_port(hospital: Hospital, text: str) -> None:
    assert codes([*network.checks(hospital.at(text), hospital.folder, {})]) == ["SITE-E126"]


@pytest.mark.parametrize(
    ("ahead", "status", "says"),
    [
        (6, "fail", "6 s ahead"),
        (-306, "fail", "5 min behind"),
        (60 * 60, "fail", "60 min ahead"),
        (-5 * 3600, "fail", "5.0 h behind"),
        (13.5 * 3600, "fail", "13.5 h ahead"),
        (3 * 86400, "fail", "more than a day"),
        (4, "warn", "4 s ahead"),
        (-200, "warn", "3 min behind"),
        (-30, "pass", "30 s behind"),
        (0, "pass", "within two seconds"),
    ],
)
def test_33_a_clock_that_is_wrong_is_told_and_measured(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, ahead: float, status: str, says: str
) -> None:
    shift_doctors_clock(monkeypatch, ahead)
    found = [*coordinator.checks(hospital.network, hospital.folder)]
    told = {finding.check: finding for finding in found}
    assert told["clock"].status == status
    assert told["clock"].code == {"fail": "SITE-E127", "warn": "SITE-W127", "pass": ""}[status]
    assert says in told["clock"].what
    if "day" not in says:
        assert told["registered"].status == "pass", "a wrong clock is not an unknown key"


def shift_doctors_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the doctor's stamps be those of a machine whose clock is that many seconds ahead."""
    real = Fleet._signed
    monkeypatch.setattr(Fleet, "_signed", lambda self, shift: real(self, shift + seconds))


def test_33_a_wrong_clock_hides_no_unknown_key(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    make_node_key(hospital.folder / "stranger.key")
    shift_doctors_clock(monkeypatch, 90)
    found = [*coordinator.checks(replace(hospital.network, node_key="stranger.key"), hospital.folder)]
    assert codes(found) == ["SITE-E127", "SITE-E125"]


def test_34_a_proxy_that_refuses_is_named_without_its_password(hospital: Hospital) -> None:
    asked: list[bytes] = []

    def refuse(connection: socket.socket) -> None:
        asked.append(connection.recv(1024))
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

    with tls.listening(refuse) as proxy:
        environment = {"https_proxy": f"http://someone:secret-word@{proxy}"}
        found = [*network.checks(hospital.network, hospital.folder, environment)]
    assert codes(found) == ["SITE-E128"]
    assert asked[0].startswith(f"CONNECT {hospital.network.coordinator} HTTP/1.1".encode())
    assert "403" in found[-1].what
    assert proxy in found[-1].what
    assert "secret-word" not in str(found)


def test_34_a_proxy_that_lets_through_is_used_as_grpc_uses_it(hospital: Hospital) -> None:
    with tls.listening(tls.tunnel(hospital.network.coordinator)) as proxy:
        found = [*network.checks(hospital.network, hospital.folder, {"grpc_proxy": proxy})]
        direct = [
            *network.checks(
                hospital.network, hospital.folder, {"grpc_proxy": "nowhere.invalid:1", "no_proxy": "x, 127.0.0.0/8"}
            )
        ]
    assert codes(found) == []
    assert f"by way of the proxy {proxy}" in str(found)
    assert codes(direct) == []


def test_34_variables_in_capitals_are_not_what_grpc_reads(hospital: Hospital) -> None:
    found = [*network.checks(hospital.network, hospital.folder, {"HTTPS_PROXY": "http://u:secret-word@proxy:3128"})]
    (told,) = [finding for finding in found if finding.check == "proxy"]
    assert told.status == "pass"
    assert "HTTPS_PROXY set, which gRPC does not read" in told.what
    assert "secret-word" not in str(found)


def test_34_a_firewall_that_ends_the_handshake(hospital: Hospital) -> None:
    def cut(connection: socket.socket) -> None:
        connection.recv(5)

    with tls.listening(cut) as address:
        found = [*network.checks(hospital.at(address), hospital.folder, {})]
    assert codes(found) == ["SITE-E128"]
    assert "ended before TLS" in found[-1].what


@contextmanager
def _plain_grpc() -> Iterator[str]:
    with superlink.fleet(None) as other:
        yield other.address


@contextmanager
def _plain_http() -> Iterator[str]:
    def answer(connection: socket.socket) -> None:
        connection.recv(1024)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with tls.listening(answer) as address:
        yield address


@pytest.mark.parametrize(("serve", "says"), [(_plain_grpc, "plain HTTP/2"), (_plain_http, "plain HTTP/1.1")])
def test_a_port_without_tls_is_told(hospital: Hospital, serve: Callable[[], "contextmanager[str]"], says: str) -> None:
    with serve() as address:
        found = [*network.checks(hospital.at(address), hospital.folder, {})]
    assert codes(found) == ["SITE-E129"]
    assert says in found[-1].what


def test_a_port_at_which_nothing_listens_is_told_from_a_host_that_is_unknown_or_silent(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = hospital.at(f"127.0.0.1:{tls.free_port()}")
    assert codes([*network.checks(nobody, hospital.folder, {})]) == ["SITE-E145"]
    unknown = hospital.at("no-such-host.invalid:9092")
    assert codes([*network.checks(unknown, hospital.folder, {})]) == ["SITE-E144"]
    assert [each.status for each in coordinator.checks(nobody, hospital.folder)] == ["skip"]

    def silent(*_: object, **__: object) -> socket.socket:
        raise TimeoutError

    def astray(*_: object, **__: object) -> socket.socket:
        raise OSError(113, os.strerror(113))

    for way, says in ((silent, "no answer within 10 s"), (astray, "No route to host")):
        with monkeypatch.context() as patch:
            patch.setattr(socket, "create_connection", way)
            (*_, last) = network.checks(hospital.network, hospital.folder, {})
        assert (last.code, says in last.what) == ("SITE-E146", True)


def test_39_another_release_of_flower_or_the_control_port(hospital: Hospital) -> None:
    """Flower from 1.40 on, and its Control API, speak HTTP/1.1 over the same TLS; another gRPC server has no Fleet."""
    with tls.tls_server(GOOD, hospital.folder / "server", protocols=("http/1.1",)) as address:
        found = [*network.checks(hospital.at(address), hospital.folder, {})]
    assert codes(found) == ["SITE-E147"]
    assert "1.40" in found[-1].fix


def test_a_hospital_that_joins_nobody_yet_is_not_at_fault(tmp_path: Path) -> None:
    none = Network("", "", "")
    found = [*keys.checks(none, tmp_path), *network.checks(none, tmp_path, {}), *coordinator.checks(none, tmp_path)]
    assert {finding.status for finding in found} == {"skip"}


def test_time_is_judged_by_the_clock_that_is_given(hospital: Hospital) -> None:
    later = datetime.now(UTC) + timedelta(days=290)
    found = [
        *keys.checks(hospital.network, hospital.folder, now=lambda: later),
        *network.checks(hospital.network, hospital.folder, {}, now=lambda: later),
    ]
    assert codes(found, of="warn") == ["SITE-W120", "SITE-W120"]

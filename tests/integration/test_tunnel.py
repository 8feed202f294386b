"""Mutual TLS with both ends as processes: who is let through, who is not, and that TLS inside it is as without."""

import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from client_app.tunnel import PEER
from fedfm import tunnel_certificates
from fedfm.tunnel_certificates import CERTIFICATE, KEY, make_pair
from server_app.tunnel_admission import pin, unpin
from tests import tls
from tests.tls import free_port
from tests.tunnel_ends import answers, coordinators_end, hospitals_end, program, until

STUDY = tls.authority()
SITE = "hospital-a"


@dataclass
class Coordinator:
    """The coordinator's end, before a server for TLS that says back what it hears."""

    folder: Path
    address: str
    superlink: str
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def admitted(self) -> Path:
        return self.folder / "admitted"

    @property
    def log(self) -> str:
        return (self.folder.parent / "coordinator.log").read_text()

    def admit(self, certificate: x509.Certificate, site: str = SITE) -> None:
        """Let a certificate in, and wait until the process has heard of it."""
        before = self.log.count("admitted: ")
        pin(self.admitted, site, certificate)
        until(lambda: self.log.count("admitted: ") > before)

    def hospital(self, folder: Path) -> str:
        """Start a hospital's end with the files of a folder; return where it listens."""
        if not (folder / PEER).exists():
            shutil.copy(self.folder / CERTIFICATE, folder / PEER)
        return self.stack.enter_context(hospitals_end(folder, self.address))


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    folder = tmp_path / "tunnel"
    (folder / "admitted").mkdir(parents=True)
    make_pair(folder, "coordinator")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls.server(STUDY, ["fl.example.org"]).write(tmp_path / "server"))

    def echo(connection: socket.socket) -> None:
        connection.settimeout(30)
        with context.wrap_socket(connection, server_side=True) as inner:
            while data := inner.recv(65536):
                inner.sendall(data)

    with tls.listening(echo) as superlink, ExitStack() as stack:
        here = stack.enter_context(coordinators_end(folder, superlink))
        yield Coordinator(folder, here, superlink, stack)


def hospital(folder: Path, name: str = SITE) -> x509.Certificate:
    """A hospital's files; its node key signs."""
    folder.mkdir()
    return make_pair(folder, name, node_key=ec.generate_private_key(ec.SECP384R1()))


@contextmanager
def inner(address: str, *, host: str = "fl.example.org", trusted: tls.Signed = STUDY) -> Iterator[ssl.SSLSocket]:
    """What a SuperNode does: TLS of its own with the coordinator's host name, at the address of the hospital's end."""
    context = ssl.create_default_context(cadata=trusted.pem.decode())
    near, _, port = address.rpartition(":")
    with (
        socket.create_connection((near, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as through,
    ):
        yield through


def is_ended(connection: ssl.SSLSocket) -> bool:
    """Whether the other side has ended it, or does so soon."""
    connection.settimeout(20)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def comes_through(address: str) -> bool:
    with inner(address) as through:
        through.sendall(b"hello")
        return through.recv(5) == b"hello"


def test_an_admitted_hospital_comes_through_with_any_amount(coordinator: Coordinator, tmp_path: Path) -> None:
    coordinator.admit(hospital(tmp_path / "a"))
    near = coordinator.hospital(tmp_path / "a")
    assert comes_through(near)
    much = bytes(range(256)) * 40_000  # about 10 MB, more than any buffer on the way
    with inner(near) as through:
        back = bytearray()
        for begin in range(0, len(much), 100_000):
            through.sendall(much[begin : begin + 100_000])
            while len(back) < min(begin + 100_000, len(much)) - 50_000:
                back += through.recv(65536)
        while len(back) < len(much):
            back += through.recv(65536)
    assert back == much


def test_the_inner_certificate_is_judged_as_without_a_tunnel(coordinator: Coordinator, tmp_path: Path) -> None:
    coordinator.admit(hospital(tmp_path / "a"))
    near = coordinator.hospital(tmp_path / "a")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"), inner(near, host="other.example"):
        pass
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"), inner(near, trusted=tls.authority("x")):
        pass


def stranger(folder: Path) -> None:
    """Another hospital's files, never admitted, of the same name."""
    hospital(folder)


def signed_by_an_admitted_one(folder: Path) -> None:
    """A certificate that the key of an admitted one has signed, shown with it."""
    folder.mkdir()
    key = load_pem_private_key((folder.parent / "a" / KEY).read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    make_pair(folder, "a friend", node_key=key)
    with (folder / CERTIFICATE).open("ab") as chain:
        chain.write((folder.parent / "a" / CERTIFICATE).read_bytes())


@pytest.mark.parametrize("make", [stranger, signed_by_an_admitted_one], ids=lambda make: make.__name__)
def test_who_is_not_admitted_is_refused_and_told_so(
    coordinator: Coordinator, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    coordinator.admit(hospital(tmp_path / "a"))
    make(tmp_path / "b")
    near = coordinator.hospital(tmp_path / "b")
    with pytest.raises(OSError), inner(near):  # noqa: PT011 - ended by whichever side is first
        pass
    until(lambda: "SITE-E236" in (tmp_path / "b" / "log").read_text())
    until(lambda: "refused 127.0.0.1" in coordinator.log)
    assert "passes" not in coordinator.log


def test_an_expired_certificate_is_refused_though_it_is_on_the_list(
    coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel_certificates, "VALID", timedelta(seconds=-1))
    certificate = hospital(tmp_path / "a")
    coordinator.admit(certificate)
    near = coordinator.hospital(tmp_path / "a")
    with pytest.raises(OSError), inner(near):  # noqa: PT011
        pass
    until(lambda: "SITE-E236" in (tmp_path / "a" / "log").read_text())
    until(lambda: "expired" in coordinator.log)


def test_without_a_certificate_nobody_gets_a_byte(coordinator: Coordinator, tmp_path: Path) -> None:
    coordinator.admit(hospital(tmp_path / "a"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, _, port = coordinator.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain) as outer,
        pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"),
    ):
        outer.recv(1)
    with pytest.raises(OSError), inner(coordinator.address):  # noqa: PT011 - a SuperNode without a tunnel
        pass
    assert "passes" not in coordinator.log


def test_older_tls_is_refused(coordinator: Coordinator) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    host, _, port = coordinator.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        pytest.raises(ssl.SSLError, match=r"(?i)version"),
    ):
        context.wrap_socket(plain)


def test_a_revoked_hospital_is_cut_off_at_once_and_the_others_are_not(coordinator: Coordinator, tmp_path: Path) -> None:
    coordinator.admit(hospital(tmp_path / "a"))
    coordinator.admit(hospital(tmp_path / "b", "hospital-b"), "hospital-b")
    of_a, of_b = coordinator.hospital(tmp_path / "a"), coordinator.hospital(tmp_path / "b")
    with inner(of_a) as a, inner(of_b) as b:
        for each in (a, b):
            each.sendall(b"hello")
            assert each.recv(5) == b"hello"
        assert unpin(coordinator.admitted, SITE) == 1
        assert is_ended(a)
        b.sendall(b"still")
        assert b.recv(5) == b"still"
    with pytest.raises(OSError), inner(of_a):  # noqa: PT011
        pass
    until(lambda: "SITE-E236" in (tmp_path / "a" / "log").read_text())
    assert f"ended {SITE}" in coordinator.log
    assert comes_through(of_b)


def test_a_damaged_list_lets_nobody_in(coordinator: Coordinator, tmp_path: Path) -> None:
    coordinator.admit(hospital(tmp_path / "a"))
    near = coordinator.hospital(tmp_path / "a")
    assert comes_through(near)
    (coordinator.admitted / "admitted.pem").write_text("# hospital-a\n-----BEGIN CERTIFICATE-----\nAA\n")
    until(lambda: "nobody passes" in coordinator.log)
    with pytest.raises(OSError), inner(near):  # noqa: PT011
        pass


def test_a_hospital_speaks_only_with_the_coordinator_that_it_pinned(coordinator: Coordinator, tmp_path: Path) -> None:
    coordinator.admit(hospital(tmp_path / "a"))
    other = tmp_path / "other"
    other.mkdir()
    make_pair(other, "coordinator")
    shutil.copy(other / CERTIFICATE, tmp_path / "a" / PEER)
    near = coordinator.hospital(tmp_path / "a")
    with pytest.raises(OSError), inner(near):  # noqa: PT011
        pass
    until(lambda: "SITE-E238" in (tmp_path / "a" / "log").read_text())


def test_a_health_check_of_the_hospitals_end_does_not_reach_the_coordinator(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    coordinator.admit(hospital(tmp_path / "a"))
    near = coordinator.hospital(tmp_path / "a")
    for _ in range(3):
        assert answers(near)
    assert comes_through(near)
    assert coordinator.log.count(f"{SITE} passes") == 1


@pytest.mark.skipif(not shutil.which("stunnel"), reason="stunnel is not installed")
@pytest.mark.parametrize("end", ["hospital", "coordinator"])
def test_stunnel_can_stand_in_for_either_end(coordinator: Coordinator, tmp_path: Path, end: str) -> None:
    """The configurations of docs/how-to/mutual-tls.md."""
    folder = tmp_path / "a"
    certificate = hospital(folder)
    coordinator.admit(certificate)
    here = f"127.0.0.1:{free_port()}"
    if end == "hospital":
        lines = ["client = yes", f"accept = {here}", f"connect = {coordinator.address}"]
        files, peers = folder, coordinator.folder / CERTIFICATE
        near = here
    else:
        lines = [f"accept = {here}", f"connect = {coordinator.superlink}"]
        files, peers = coordinator.folder, coordinator.admitted / "admitted.pem"
        coordinator.address = here
    lines += [f"cert = {files / CERTIFICATE}", f"key = {files / KEY}", "verifyPeer = yes", f"CAfile = {peers}"]
    settings = tmp_path / "stunnel.conf"
    settings.write_text("\n".join(["foreground = yes", "pid =", "[fedfm]", *lines, "sslVersionMin = TLSv1.3", ""]))
    coordinator.stack.enter_context(program(tmp_path / "stunnel.log", "stunnel", str(settings), ready=here))
    if end == "coordinator":
        near = coordinator.hospital(folder)
    assert comes_through(near)
    if end == "coordinator":
        hospital(tmp_path / "b", "hospital-b")
        with pytest.raises(OSError), inner(coordinator.hospital(tmp_path / "b")):  # noqa: PT011
            pass

"""Certificates with any flaw, and servers that show them."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Signed:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        kind, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return self.key.private_bytes(serialization.Encoding.PEM, kind, none)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write certificate and key, the key for its owner only."""
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key = folder / "server.pem", folder / "server.key"
        certificate.write_bytes(self.pem)
        key.write_bytes(self.key_pem)
        key.chmod(0o600)
        return certificate, key


def authority(name: str = "fedfm authority", *, begins: timedelta = -DAY, ends: timedelta = 300 * DAY) -> Signed:
    """Return an authority; ``begins`` and ``ends`` count from now."""
    key = ec.generate_private_key(ec.SECP384R1())
    return Signed(_certificate(name, name, key, signer=key, span=(begins, ends), hosts=None), key)


def server(
    by: Signed,
    hosts: Sequence[str] = ("127.0.0.1", "localhost"),
    *,
    begins: timedelta = -DAY,
    ends: timedelta = 300 * DAY,
    key: Key | None = None,
) -> Signed:
    """Return a server's certificate that ``by`` signed."""
    key = key or ec.generate_private_key(ec.SECP384R1())
    issuer = by.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    return Signed(_certificate("the server", str(issuer), key, signer=by.key, span=(begins, ends), hosts=hosts), key)


def alone(name: str, hosts: Sequence[str] = ("127.0.0.1", "localhost")) -> Signed:
    """Return a server's certificate that signed itself."""
    key = ec.generate_private_key(ec.SECP384R1())
    return Signed(_certificate(name, name, key, signer=key, span=(-DAY, 300 * DAY), hosts=hosts), key)


def _certificate(
    subject: str, issuer: str, key: Key, *, signer: Key, span: tuple[timedelta, timedelta], hosts: Sequence[str] | None
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + span[0])
        .not_valid_after(now + span[1])
        .add_extension(x509.BasicConstraints(ca=hosts is None, path_length=None), critical=True)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(host) for host in hosts]), critical=False)
    return builder.sign(signer, hashes.SHA384())


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Give every connection to ``answer``, each in a thread; yields ``host:port``."""
    listener = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(5)
            answer(connection)

    def accept() -> None:
        with suppress(OSError):  # closed
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(timeout=5)


@contextmanager
def tls_server(shown: Signed, folder: Path, *, protocols: Sequence[str] = ("h2",)) -> Iterator[str]:
    """Serve TLS with a certificate, and nothing behind it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*shown.write(folder))
    if protocols:
        context.set_alpn_protocols(list(protocols))

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(1024)

    with listening(answer) as address:
        yield address


def silent(connection: socket.socket) -> None:
    """Take what comes and say nothing."""
    while connection.recv(1024):
        pass


def tunnel(target: str) -> Callable[[socket.socket], None]:
    """Return what answers as a proxy that lets CONNECT through, for a second or more."""

    def answer(connection: socket.socket) -> None:
        connection.recv(1024)
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port))) as there:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            for each in (there, connection):
                each.settimeout(0.2)
            for source, sink in ((connection, there), (there, connection)) * 20:
                try:
                    if not (data := source.recv(65536)):
                        return
                    sink.sendall(data)
                except TimeoutError:
                    continue

    return answer


def free_port() -> int:
    """Return a port of loopback on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])

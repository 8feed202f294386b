"""Who is let in, who is put out, and what is said when it does not work."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from flwr.proto.control_pb2 import ListNodesRequest, ListNodesResponse, RegisterNodeRequest, UnregisterNodeRequest
from flwr.proto.node_pb2 import NodeInfo
from typer.testing import CliRunner

from client_app.keys import make_node_key
from fedfm.errors import ConfigError
from fedfm.node_keys import fingerprint
from server_app import admission, certificates
from server_app.certificates import make_certificates
from server_app.cli import app


@dataclass
class SuperLink:
    """A SuperLink's list of nodes: a key is there once and for ever."""

    nodes: list[NodeInfo] = field(default_factory=list)

    def ListNodes(self, _: ListNodesRequest) -> ListNodesResponse:  # noqa: N802
        return ListNodesResponse(nodes_info=self.nodes)

    def RegisterNode(self, request: RegisterNodeRequest) -> None:  # noqa: N802
        assert request.public_key not in {node.public_key for node in self.nodes}
        number = len(self.nodes) + 1
        when = "2026-01-02T03:04:05+00:00"
        node = NodeInfo(node_id=number, name=request.name, public_key=request.public_key, registered_at=when)
        node.status = "registered"
        self.nodes.append(node)

    def UnregisterNode(self, request: UnregisterNodeRequest) -> None:  # noqa: N802
        self.nodes[request.node_id - 1].status = "unregistered"

    def close(self) -> None:
        pass


@pytest.fixture
def superlink(monkeypatch: pytest.MonkeyPatch) -> SuperLink:
    """A SuperLink that every command reaches."""
    it = SuperLink()
    monkeypatch.setattr(admission, "client", lambda *_: it)
    return it


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make_node_key(tmp_path / "node.key")


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "160"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def code_of(result: Result) -> str:
    assert result.exit_code in (1, 2)
    return result.stderr.split()[0]


def test_a_site_is_let_in_and_its_fingerprint_is_told(superlink: SuperLink, key: Path) -> None:
    done = run("admit", key, "--site", "hospital-a")
    assert done.exit_code == 0
    assert fingerprint(key.read_text()) in done.stdout
    assert "telephone" in done.stdout
    (node,) = superlink.nodes
    assert node.name == "hospital-a"
    read = serialization.load_pem_public_key(node.public_key)
    assert read == serialization.load_ssh_public_key(key.read_bytes())


def test_a_key_with_another_fingerprint_than_was_named_is_refused(superlink: SuperLink, key: Path) -> None:
    other = fingerprint(make_node_key(key.with_name("other")).read_text())
    assert code_of(run("admit", key, "--site", "hospital-a", "--fingerprint", other)) == "STUDY-E099"
    assert superlink.nodes == []
    assert run("admit", key, "--site", "hospital-a", "--fingerprint", fingerprint(key.read_text())).exit_code == 0


def test_a_key_and_an_id_are_taken_once(superlink: SuperLink, key: Path) -> None:
    run("admit", key, "--site", "hospital-a")
    again = run("admit", key, "--site", "hospital-b")
    assert code_of(again) == "STUDY-E091"
    assert "let in already" in again.stderr
    assert "hospital-a" in again.stderr
    other = make_node_key(key.with_name("other"))
    assert code_of(run("admit", other, "--site", "hospital-a")) == "STUDY-E092"
    assert len(superlink.nodes) == 1


def test_a_revoked_key_never_comes_back_and_its_id_does_with_another(superlink: SuperLink, key: Path) -> None:
    run("admit", key, "--site", "hospital-a")
    assert run("revoke", "hospital-a", "--yes").exit_code == 0
    again = run("admit", key, "--site", "hospital-a")
    assert code_of(again) == "STUDY-E091"
    assert "was revoked" in again.stderr
    assert run("admit", make_node_key(key.with_name("other")), "--site", "hospital-a").exit_code == 0
    assert [(each.site, each.state) for each in admission.sites(superlink)] == [  # type: ignore[arg-type]
        ("hospital-a", "never seen"),
        ("hospital-a", "revoked"),
    ]


def test_revoking_asks_first_and_names_who_is_there(superlink: SuperLink, key: Path) -> None:
    run("admit", key, "--site", "hospital-a")
    asked = CliRunner().invoke(app, ["revoke", "hospital-a"], input="n\n")
    assert asked.exit_code == 1
    assert superlink.nodes[0].status == "registered"
    unknown = run("revoke", "hospital-b", "--yes")
    assert code_of(unknown) == "STUDY-E096"
    assert "allowed: hospital-a" in unknown.stderr


def test_sites_are_shown_with_their_state_and_for_machines(superlink: SuperLink, key: Path) -> None:
    assert "No hospital" in run("sites").stdout
    run("admit", key, "--site", "hospital-a")
    assert "never seen" in run("sites").stdout
    superlink.nodes[0].status = "offline"
    superlink.nodes[0].last_deactivated_at = "2026-03-04T05:06:07+02:00"
    shown = run("sites").stdout
    assert "2026-03-04 03:06" in shown
    assert fingerprint(key.read_text()) in shown
    (told,) = json.loads(run("sites", "--json").stdout)["sites"]
    assert (told["site"], told["state"], told["seen"]) == ("hospital-a", "offline", "2026-03-04T03:06:07+00:00")


def ssh(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "No such file"),
        (b"hello", "no key in OpenSSH's form"),
        (ssh(ed25519.Ed25519PrivateKey.generate()), "a key of another kind"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n", "a private key"),
    ],
)
def test_what_is_no_public_node_key_is_named(
    superlink: SuperLink, tmp_path: Path, content: bytes | None, found: str
) -> None:
    path = tmp_path / "site.pub"
    if content is not None:
        path.write_bytes(content)
    result = run("admit", path, "--site", "hospital-a")
    assert code_of(result) == "STUDY-E090"
    assert found in result.stderr
    assert superlink.nodes == []


@pytest.mark.parametrize("site", ["A", "hospital a", "-a", "a" * 33])
def test_an_id_that_no_site_file_may_have_is_refused(superlink: SuperLink, key: Path, site: str) -> None:
    assert code_of(run("admit", key, "--site", site)) == "STUDY-E098"
    assert superlink.nodes == []


class Refusing(BaseHTTPRequestHandler):
    """Answers all with an error of Flower's own."""

    def do_POST(self) -> None:
        body = json.dumps({"code": 10, "public_message": "forbidden", "message": "forbidden"}).encode()
        self.send_response(403)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(made: certificates.Certificates) -> Iterator[str]:
    """Serve over TLS on loopback; gives the address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.server, made.server_key)
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def expired(folder: Path, monkeypatch: pytest.MonkeyPatch) -> certificates.Certificates:
    monkeypatch.setattr(certificates, "VALID", timedelta(seconds=-1))
    return make_certificates(folder)


@pytest.mark.parametrize(
    ("make", "trusted", "code", "said"),
    [
        (lambda path, _: make_certificates(path), "", "STUDY-E097", "refuses"),
        (lambda path, _: make_certificates(path), "other", "STUDY-E094", "another authority"),
        (lambda path, _: make_certificates(path, ["fl.example.org"]), "", "STUDY-E094", "another host name"),
        (expired, "", "STUDY-E094", "expired"),
    ],
)
def test_what_keeps_us_from_the_superlink_is_told_apart(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path, pytest.MonkeyPatch], certificates.Certificates],
    trusted: str,
    code: str,
    said: str,
) -> None:
    other = make_certificates(tmp_path / "other").authority
    made = make(tmp_path / "made", monkeypatch)
    with serving(made) as address:
        result = run("sites", "--superlink", address, "--authority", other if trusted else made.authority)
    assert code_of(result) == code
    assert said in result.stderr.splitlines()[0], result.stderr


def test_a_superlink_that_is_not_there_and_a_file_that_is_no_certificate(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    gone = run("sites", "--superlink", "127.0.0.1:1", "--authority", made.authority)
    assert code_of(gone) == "STUDY-E093"
    assert code_of(run("sites", "--authority", tmp_path / "nowhere")) == "STUDY-E095"
    assert code_of(run("sites", "--authority", make_node_key(tmp_path / "key"))) == "STUDY-E095"
    with pytest.raises(ConfigError, match="STUDY-E095"):
        admission.client("127.0.0.1:1", tmp_path / "key")

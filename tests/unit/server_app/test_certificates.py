"""Certificates hold for the named hosts only, keys are private, and nothing is overwritten."""

import stat
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from client_app.keys import make_node_key
from fedfm.errors import EngineError
from fedfm.private_files import make_secret
from server_app.certificates import Certificates, make_certificates


def verify(made: Certificates, host: x509.DNSName | x509.IPAddress, *, authority: Path, days: int = 0) -> None:
    store = Store([x509.load_pem_x509_certificate(authority.read_bytes())])
    moment = datetime.now(UTC) + timedelta(days=days)
    verifier = PolicyBuilder().store(store).time(moment).build_server_verifier(host)
    verifier.verify(x509.load_pem_x509_certificate(made.server.read_bytes()), [])


@pytest.mark.parametrize("host", [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
def test_the_certificate_holds_for_each_named_host(tmp_path: Path, host: x509.DNSName | x509.IPAddress) -> None:
    made = make_certificates(tmp_path)
    verify(made, host, authority=made.authority)
    verify(made, host, authority=made.authority, days=364)
    with pytest.raises(VerificationError):
        verify(made, host, authority=made.authority, days=366)


def test_it_holds_for_no_other_host_and_under_no_other_authority(tmp_path: Path) -> None:
    made, other = make_certificates(tmp_path / "a"), make_certificates(tmp_path / "b")
    with pytest.raises(VerificationError):
        verify(made, x509.DNSName("example.org"), authority=made.authority)
    with pytest.raises(VerificationError):
        verify(made, x509.DNSName("localhost"), authority=other.authority)


def test_private_files_are_for_their_owner_only(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "certificates")
    make_node_key(tmp_path / "keys" / "site")
    private = [made.server_key, tmp_path / "keys" / "site", make_secret(tmp_path / "secret")]
    assert [stat.S_IMODE(path.stat().st_mode) for path in private] == [0o600] * 3


def test_the_authoritys_key_is_kept_nowhere(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"ca.crt", "server.pem", "server.key"}


def test_an_existing_certificate_is_never_overwritten(tmp_path: Path) -> None:
    before = make_certificates(tmp_path).server_key.read_bytes()
    with pytest.raises(EngineError, match="ENGINE-E101"):
        make_certificates(tmp_path)
    assert (tmp_path / "server.key").read_bytes() == before


def test_the_public_node_key_belongs_to_the_private_one(tmp_path: Path) -> None:
    public = load_ssh_public_key(make_node_key(tmp_path / "site").read_bytes())
    private = load_ssh_private_key((tmp_path / "site").read_bytes(), password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert isinstance(private.curve, ec.SECP384R1)
    assert private.public_key() == public

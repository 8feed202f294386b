"""What is wrong with a certificate or a key is named, one flaw at a time, and nothing else is."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509 import DNSName
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given
from hypothesis import strategies as st

from fedfm import certificates
from fedfm.certificates import Flaw
from server_app.certificates import _signed
from tests import tls
from tests.tls import DAY

NOW = datetime.now(UTC)
STUDY = tls.authority()
GOOD = tls.server(STUDY, ["fl.example.org", "203.0.113.7", "*.sites.example.org"])


def kinds(flaws: list[Flaw]) -> list[str]:
    return [flaw.kind for flaw in flaws]


def judge(shown: tls.Signed, host: str = "fl.example.org", *, now: datetime = NOW) -> list[Flaw]:
    """Everything that is wrong with a server's certificate."""
    return [
        *certificates.issuer_flaws(shown.certificate, [STUDY.certificate]),
        *certificates.host_flaws(shown.certificate, host),
        *certificates.time_flaws(shown.certificate, now),
        *certificates.strength_flaws(shown.certificate.public_key(), "the server's key"),
    ]


def test_a_good_certificate_has_no_flaw() -> None:
    assert judge(GOOD) == []


NAMED = ["fl.example.org"]


@pytest.mark.parametrize(
    ("shown", "kind", "says"),
    [
        (tls.server(STUDY, NAMED, begins=-3 * DAY, ends=-DAY), "expired", "expired on"),
        (tls.server(STUDY, NAMED, ends=20 * DAY), "expires_soon", "in 19 days"),
        (tls.server(STUDY, NAMED, begins=DAY), "not_yet_valid", "the clock here says"),
        (tls.server(STUDY, ["a.example", "198.51.100.4"]), "other_host", "for a.example, 198.51.100.4, and not for fl"),
        (tls.server(tls.authority(), NAMED), "other_authority", "another 'fedfm authority'"),
        (tls.server(tls.authority("Hospital Proxy CA"), NAMED), "intercepted", "'Hospital Proxy CA', not by the study"),
        (tls.server(STUDY, NAMED, key=rsa.generate_private_key(65537, 2048)), "weak_key", "2048 bits (RSA)"),
        (tls.server(STUDY, NAMED, key=ec.generate_private_key(ec.SECP224R1())), "weak_key", "224 bits (EC)"),
    ],
)
def test_each_flaw_is_told_from_the_others(shown: tls.Signed, kind: str, says: str) -> None:
    (flaw,) = judge(shown)
    assert flaw.kind == kind
    assert says in flaw.what
    assert flaw.is_fatal == (kind != "expires_soon")


def test_a_certificate_that_signed_itself_is_of_another_authority() -> None:
    alone = tls.authority("coordinator")
    assert [flaw.kind for flaw in certificates.issuer_flaws(alone.certificate, [STUDY.certificate])] == [
        "other_authority"
    ]


def test_several_flaws_are_all_named() -> None:
    shown = tls.server(tls.authority("Proxy"), ["b.example"], begins=-3 * DAY, ends=-DAY)
    assert kinds(judge(shown)) == ["intercepted", "other_host", "expired"]


LABEL = st.text("abcxyz019-", min_size=1, max_size=8).filter(lambda text: text[0] != "-" and text[-1] != "-")


@given(
    first=LABEL,
    rest=st.lists(LABEL, min_size=1, max_size=3),
    wild=st.booleans(),
    host=st.one_of(st.none(), st.lists(LABEL, min_size=2, max_size=4)),
)
def test_hosts_match_as_cryptography_says_they_do(
    first: str, rest: list[str], wild: bool, host: list[str] | None
) -> None:
    name = ".".join(["*" if wild else first, *rest, "example"])  # never an IP address
    asked = ".".join([*(host or [first, *rest]), "example"])
    shown = _with_name(name)
    verifier = PolicyBuilder().store(Store([shown[0]])).time(datetime.now(UTC)).build_server_verifier
    try:
        verifier(DNSName(asked)).verify(shown[1], [])
        matches = True
    except VerificationError:
        matches = False
    except ValueError:
        return  # a name that cryptography does not take
    assert (not [*certificates.host_flaws(shown[1], asked)]) == matches


def _with_name(name: str) -> tuple[x509.Certificate, x509.Certificate]:
    """Return a real authority of ours, and a server's certificate for one name."""
    authority, server, _ = _signed([name])
    return x509.load_pem_x509_certificate(authority), x509.load_pem_x509_certificate(server)


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        ("FL.example.org.", True),
        ("203.0.113.7", True),
        ("203.0.113.8", False),
        ("a.sites.example.org", True),
        ("a.b.sites.example.org", False),
        ("sites.example.org", False),
        (".sites.example.org", False),
    ],
)
def test_a_certificate_is_for_its_names_only(host: str, covered: bool) -> None:
    assert ([*certificates.host_flaws(GOOD.certificate, host)] == []) == covered


@given(days=st.floats(-400, 700, allow_nan=False))
def test_time_has_one_verdict_at_every_moment(days: float) -> None:
    shown = tls.server(STUDY, ["x"], begins=-100 * DAY, ends=265 * DAY).certificate
    now = NOW + timedelta(days=days)
    found = kinds([*certificates.time_flaws(shown, now)])
    left = shown.not_valid_after_utc - now
    expected = "not_yet_valid" if now < shown.not_valid_before_utc else "expired" if left < timedelta(0) else ""
    assert found == ([expected] if expected else ["expires_soon"] if left < 30 * DAY else [])


def test_a_bundle_is_good_as_long_as_one_authority_is() -> None:
    old = tls.authority(begins=-9 * DAY, ends=-DAY).certificate
    soon = tls.authority(ends=10 * DAY).certificate
    assert certificates.authority_flaws([old, STUDY.certificate, soon], NOW) == []
    assert kinds(certificates.authority_flaws([old, soon], NOW)) == ["expires_soon"]
    assert kinds(certificates.authority_flaws([old], NOW)) == ["expired"]


def test_a_key_is_the_certificates_own_readable_by_its_owner_and_a_key(tmp_path: Path) -> None:
    _, key = GOOD.write(tmp_path)
    other = tls.server(STUDY).certificate
    assert [*certificates.key_file_flaws(key, GOOD.certificate)] == []
    assert kinds([*certificates.key_file_flaws(key, other)]) == ["key_mismatch"]
    key.chmod(0o640)  # shared with a service of the same group
    assert [*certificates.key_file_flaws(key, GOOD.certificate)] == []
    for mode in (0o644, 0o660, 0o602):
        key.chmod(mode)
        (flaw,) = certificates.key_file_flaws(key, GOOD.certificate)
        assert (flaw.kind, f"{mode:04o}" in flaw.what) == ("key_readable", True)
    key.chmod(0o600)
    key.write_bytes(b"no key")
    assert kinds([*certificates.key_file_flaws(key, GOOD.certificate)]) == ["unreadable"]
    assert kinds([*certificates.key_file_flaws(tmp_path / "absent", GOOD.certificate)]) == ["unreadable"]
    locked = serialization.BestAvailableEncryption(b"secret")
    key.write_bytes(GOOD.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    (flaw,) = certificates.key_file_flaws(key, GOOD.certificate)
    assert flaw.kind == "unreadable"
    assert "without a password" in flaw.what


def test_a_key_of_another_kind_is_weak() -> None:
    odd = dsa.generate_private_key(2048).public_key()
    assert kinds([*certificates.strength_flaws(odd, "the key")]) == ["weak_key"]


def test_a_file_without_a_certificate_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("nothing")
    with pytest.raises(ValueError, match="PEM"):
        certificates.read_certificates(tmp_path / "ca.crt")
    (tmp_path / "both.crt").write_bytes(STUDY.pem + GOOD.pem)
    assert certificates.read_certificates(tmp_path / "both.crt") == [STUDY.certificate, GOOD.certificate]
    assert certificates.hosts_of(STUDY.certificate) == []

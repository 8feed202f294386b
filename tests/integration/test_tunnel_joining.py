"""A hospital joins with mutual TLS: the commands of both sides, the files between them, the doctor, a Fleet API."""

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

import client_app.cli
import server_app.cli
from client_app.doctor import coordinator, keys, network
from fedfm import tunnel_certificates
from fedfm.config.compose import load_site
from fedfm.config.site import Network
from fedfm.findings import Finding
from server_app import admission
from server_app.demo_data import make_demo_data
from server_app.tunnel_admission import read_admitted
from tests import superlink, tls
from tests.tunnel_ends import coordinators_end, until
from tests.unit.server_app.test_admission import SuperLink

NAME = "fl.example.org"


def site(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(client_app.cli.app, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def study(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(server_app.cli.app, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


@dataclass(frozen=True)
class Joined:
    """A coordinator's folder, a hospital's, and what runs.

    Attributes:
        centre: What ``fedfm-study init`` and ``tunnel`` have made.
        hospital: What ``fedfm-site init`` and ``tunnel`` have made.
        served: The Fleet API that knows the hospital's node key.
        tunnel: Where the coordinator's end listens.
    """

    centre: Path
    hospital: Path
    served: superlink.Served
    tunnel: str

    @property
    def admitted(self) -> Path:
        return self.centre / "tunnel" / "admitted"

    @property
    def network(self) -> Network:
        """What the site file says, with paths of this machine and not of the containers."""
        return replace(
            load_site(self.hospital / "site.yaml").network,
            **{"authority": "ca.crt", "node_key": "node.key", "tunnel_files": "tunnel", "tunnel": self.tunnel},
        )

    def admit(self, code: int = 0) -> str:
        words = ("admit", self.hospital / "site.pub", "--site", "hospital-a", "--tunnels", self.admitted)
        heard = self.log.count("admitted: ")
        said = study(*words, code=code)
        if code == 0:
            until(lambda: self.log.count("admitted: ") > heard)
        return said

    @property
    def log(self) -> str:
        return (self.centre / "coordinator.log").read_text()

    def look(self, named: Network | None = None) -> list[Finding]:
        named, folder = named or self.network, self.hospital
        groups = (keys.checks(named, folder), network.checks(named, folder, {}), coordinator.checks(named, folder))
        return [finding for group in groups for finding in group]


def codes(found: list[Finding], *, of: str = "fail") -> list[str]:
    return [finding.code for finding in found if finding.status == of]


def make_hospital(folder: Path, centre: Path) -> None:
    table = make_demo_data(folder.parent / "data", sites=1, patients=60)[0].parent / "cohort.csv"
    said = {
        "--table": table,
        "--coordinator": f"{NAME}:9092",
        "--authority": centre / "certificates" / "ca.crt",
        "--label-map": "0=recovered,1=deteriorated",
        "--id": "hospital-a",
    }
    site("init", folder, *(part for pair in said.items() for part in pair), "--yes")


@pytest.fixture
def joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Joined]:
    """Everything but the admission."""
    centre, hospital = tmp_path / "coordinator", tmp_path / "hospital-a"
    control = SuperLink()
    monkeypatch.setattr(admission, "client", lambda *_: control)
    authority = tls.authority()
    study("init", centre, NAME)
    (centre / "certificates" / "ca.crt").write_bytes(authority.pem)
    study("tunnel", centre)
    make_hospital(hospital, centre)
    site("tunnel", hospital, "--peer", centre / "tunnel" / "tunnel.crt", "--at", f"{NAME}:9092")
    with (
        superlink.fleet(tls.server(authority, [NAME])) as served,
        coordinators_end(centre / "tunnel", served.address) as tunnel,
    ):
        served.register(hospital / "site.pub")
        yield Joined(centre, hospital, served, tunnel)


def test_a_hospital_comes_through_as_if_there_were_no_tunnel(joined: Joined) -> None:
    assert "let in until" in joined.admit()
    found = joined.look()
    assert {finding.status for finding in found} == {"pass"}, found
    assert [finding.check for finding in found if finding.group == "network"] == [
        *("address", "proxy", "connection", "tunnel", "TLS", "certificate", "HTTP/2")
    ]
    assert [finding.check for finding in found if finding.group == "coordinator"] == [
        *("clock", "registered", "admission", "online")
    ]
    (tls_found,) = [finding for finding in found if finding.check == "TLS"]
    assert f"for {NAME}" in tls_found.what


def test_the_inner_certificate_is_judged_with_the_same_codes(joined: Joined) -> None:
    joined.admit()
    assert codes(joined.look(replace(joined.network, coordinator="other.example:9092"))) == ["SITE-E121"]
    (joined.hospital / "ca.crt").write_bytes(tls.authority().pem)
    assert codes(joined.look()) == ["SITE-E122"]


def test_files_and_their_rights(joined: Joined) -> None:
    ours, theirs = joined.hospital / "tunnel", joined.centre / "tunnel"
    for folder, mode in ((ours, 0o440), (theirs, 0o400)):
        assert stat.S_IMODE((folder / "tunnel.key").stat().st_mode) == mode
        assert b"PRIVATE" not in (folder / "tunnel.crt").read_bytes()
        if os.geteuid() == 0:
            assert ((folder / "tunnel.key").stat().st_uid, (folder / "tunnel.key").stat().st_gid) == (10006, 10000)
    assert (ours / "coordinator.crt").read_bytes() == (theirs / "tunnel.crt").read_bytes()
    public = (joined.hospital / "site.pub").read_bytes()
    assert (ours / "tunnel.crt").read_bytes() in public
    assert b"PRIVATE" not in public
    assert stat.S_IMODE((joined.hospital / "site.pub").stat().st_mode) == 0o644
    settings = (joined.hospital / ".env").read_text()
    assert "COMPOSE_FILE=site.compose.yaml:mutual-tls.site.compose.yaml\n" in settings
    assert settings.count("COMPOSE_FILE=") == 1
    assert f"FEDFM_COORDINATOR_NAME={NAME}\n" in settings
    assert "mutual-tls.coordinator.compose.yaml" in (joined.centre / ".env").read_text()
    assert load_site(joined.hospital / "site.yaml").network.tunnel == f"{NAME}:9092"


def test_a_hospital_that_is_not_admitted_yet_is_told_so(joined: Joined) -> None:
    found = joined.look()
    assert codes(found) == ["SITE-E236"]
    (finding,) = [each for each in found if each.code]
    assert "site.pub" in finding.fix


def test_a_revoked_hospital_is_told_so_and_its_new_key_gets_in(joined: Joined) -> None:
    joined.admit()
    heard = joined.log.count("admitted: ")
    assert "closed to hospital-a" in study("revoke", "hospital-a", "--yes", "--tunnels", joined.admitted)
    until(lambda: joined.log.count("admitted: ") > heard)
    assert codes(joined.look()) == ["SITE-E236"]
    assert read_admitted(joined.admitted / "admitted.pem") == {}
    assert "STUDY-E091" in joined.admit(code=2)
    assert read_admitted(joined.admitted / "admitted.pem") == {}, "a revoked hospital came back by the tunnel's list"


def test_revoking_closes_the_tunnel_also_where_no_superlink_answers(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined.admit()
    monkeypatch.undo()
    where = ("--superlink", "127.0.0.1:1", "--authority", joined.centre / "certificates" / "ca.crt")
    said = study("revoke", "hospital-a", "--yes", "--tunnels", joined.admitted, *where, code=1)
    assert "STUDY-E093" in said
    assert read_admitted(joined.admitted / "admitted.pem") == {}


def test_days_that_are_over_or_nearly(joined: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    over, nearly = timedelta(seconds=-1), timedelta(days=12)
    for left, status, code in ((nearly, "warn", "SITE-W237"), (over, "fail", "SITE-E237")):
        monkeypatch.setattr(tunnel_certificates, "VALID", left)
        renewed(joined)
        assert codes([*keys.checks(joined.network, joined.hospital)], of=status) == [code]
    assert codes(joined.look()) == ["SITE-E237", "SITE-E236"]
    assert "STUDY-E087" in joined.admit(code=2)


def renewed(joined: Joined) -> None:
    """What the page says: move the folder away, and make another."""
    (joined.hospital / "tunnel").rename(joined.hospital / f"former-{len([*joined.hospital.iterdir()])}")
    site("tunnel", joined.hospital, "--peer", joined.centre / "tunnel" / "tunnel.crt", "--at", f"{NAME}:9092")


def test_a_renewed_certificate_gets_in_beside_the_old_one_by_the_same_command(joined: Joined) -> None:
    joined.admit()
    renewed(joined)
    assert codes(joined.look()) == ["SITE-E236"]
    joined.admit()
    assert codes(joined.look()) == []
    assert [*read_admitted(joined.admitted / "admitted.pem").values()] == ["hospital-a", "hospital-a"]
    assert (joined.hospital / "site.pub").read_text().count("BEGIN CERTIFICATE") == 1
    assert (joined.hospital / "site.yaml").read_text().count("  tunnel: ") == 1


def test_a_certificate_that_was_exchanged_on_its_way_is_refused(joined: Joined) -> None:
    """The fingerprint that two people compare is the node key's: the certificate must not get in beside it."""
    public = joined.hospital / "site.pub"
    line, own = public.read_text().splitlines()[0], public.read_text()
    tunnel_certificates.make_pair(joined.hospital, "hospital-a")
    public.write_text(line + "\n" + (joined.hospital / "tunnel.crt").read_text())
    assert "STUDY-E087" in joined.admit(code=2)
    public.write_text(own.replace("CERTIFICATE-----\nMII", "CERTIFICATE-----\nAAA"))
    assert "STUDY-E087" in joined.admit(code=2)
    assert read_admitted(joined.admitted / "admitted.pem") == {}


def test_a_public_key_without_a_certificate_is_let_in_as_before_and_told_of_the_tunnel(joined: Joined) -> None:
    public = joined.hospital / "site.pub"
    public.write_text(public.read_text().splitlines()[0] + "\n")
    words = ("admit", public, "--site", "hospital-a")
    assert "does not get through" in study(*words, "--tunnels", joined.admitted)
    assert "tunnel" not in study("admit", other_key(joined), "--site", "hospital-b")


def other_key(joined: Joined) -> Path:
    other = joined.hospital.parent / "hospital-b"
    make_hospital(other, joined.centre)
    return other / "site.pub"


def test_a_coordinator_without_a_tunnel_takes_a_public_key_that_carries_a_certificate(joined: Joined) -> None:
    said = study("admit", joined.hospital / "site.pub", "--site", "hospital-a")
    assert "tunnel" not in said
    assert read_admitted(joined.admitted / "admitted.pem") == {}


def test_what_is_not_the_coordinators_tunnel(joined: Joined) -> None:
    joined.admit()
    tunnel_certificates.make_pair(joined.hospital, "coordinator")
    shutil.copy(joined.hospital / "tunnel.crt", joined.hospital / "tunnel" / "coordinator.crt")
    assert codes(joined.look()) == ["SITE-E238"]
    with superlink.fleet(None) as plain:
        assert codes(joined.look(replace(joined.network, tunnel=plain.address))) == ["SITE-E238"]


def test_what_is_there_is_never_overwritten(joined: Joined) -> None:
    before = (joined.hospital / "tunnel" / "tunnel.key").read_bytes()
    peer = joined.centre / "tunnel" / "tunnel.crt"
    assert "SITE-E235" in site("tunnel", joined.hospital, "--peer", peer, "--at", "h:1", code=2)
    assert (joined.hospital / "tunnel" / "tunnel.key").read_bytes() == before
    assert "STUDY-E086" in study("tunnel", joined.centre, code=2)


@pytest.mark.parametrize("wrong", ["no certificate", "an address and no name", "another list"])
def test_what_cannot_be_has_its_code(joined: Joined, wrong: str) -> None:
    peer = joined.centre / "tunnel" / "tunnel.crt"
    if wrong == "another list":
        (joined.admitted / "admitted.pem").write_text("-----BEGIN CERTIFICATE-----\n")
        assert "STUDY-E088" in joined.admit(code=2)
        return
    (joined.hospital / "tunnel").rename(joined.hospital / "former")
    if wrong == "no certificate":
        peer = joined.centre / ".env"
    else:
        file = joined.hospital / "site.yaml"
        file.write_text(file.read_text().replace(f'coordinator: "{NAME}:9092"', 'coordinator: "192.0.2.7:9092"'))
    assert "SITE-E235" in site("tunnel", joined.hospital, "--peer", peer, "--at", f"{NAME}:9092", code=2)
    assert not (joined.hospital / "tunnel").exists()

"""The coordinator's doctor names each thing that is wrong by its own code, and passes what is right."""

import ipaddress
import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedfm.findings import Finding
from server_app.admission import Admitted
from server_app.certificates import make_certificates, renew
from server_app.cli import app
from server_app.doctor import identity, machine, study, superlink, visit
from server_app.doctor.asked import Asked
from server_app.doctor.superlink import hospitals, listening, open_to
from tests import tls
from tests.superlink import fleet
from tests.tls import DAY

TINY = ("experiment=demo", "model=tiny", "adapter=head", "explainability=none")


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    """A coordinator that has done everything right, and whose SuperLink does not run."""
    made = make_certificates(tmp_path / "certificates")
    database = tmp_path / "superlink.db"
    database.write_bytes(b"")
    database.chmod(0o600)
    nobody = f"127.0.0.1:{tls.free_port()}"
    return Asked(TINY, made.authority.parent, nobody, nobody, database, tmp_path / "results", tmp_path / "memory")


def codes(findings: Iterator[Finding]) -> list[str]:
    return [finding.code for finding in findings if finding.code]


def show(asked: Asked, authority: tls.Signed, server: tls.Signed) -> Asked:
    """Return the same with other certificates."""
    folder = asked.certificates / "others"
    server.write(folder)
    (folder / "ca.crt").write_bytes(authority.pem)
    return replace(asked, certificates=folder)


def test_good_certificates_pass_and_name_their_hosts(asked: Asked) -> None:
    found = [*identity.findings(asked)]
    assert {finding.status for finding in found} == {"pass"}
    assert "for localhost, 127.0.0.1" in str(found)


STUDY = tls.authority()


@pytest.mark.parametrize(
    ("authority", "server", "code"),
    [
        (STUDY, tls.server(STUDY, begins=-9 * DAY, ends=-DAY), "RUN-E010"),
        (STUDY, tls.server(STUDY, ends=12 * DAY), "RUN-W010"),
        (tls.authority(), tls.server(STUDY), "RUN-E012"),
        (tls.authority("another"), tls.server(STUDY), "RUN-E012"),
        (STUDY, tls.server(STUDY, begins=DAY), "RUN-E016"),
    ],
)
def test_each_flaw_of_a_certificate_has_its_code(
    asked: Asked, authority: tls.Signed, server: tls.Signed, code: str
) -> None:
    assert codes(identity.findings(show(asked, authority, server))) == [code]


def test_keys_and_files_that_are_not_as_they_must_be(asked: Asked) -> None:
    key = asked.certificates / "server.key"
    key.chmod(0o644)
    assert codes(identity.findings(asked)) == ["RUN-E014"]
    key.unlink()
    assert codes(identity.findings(asked)) == ["RUN-E015"]
    key.write_bytes(tls.server(STUDY).key_pem)
    key.chmod(0o600)
    assert codes(identity.findings(asked)) == ["RUN-E013"]
    (asked.certificates / "server.pem").unlink()
    assert codes(identity.findings(asked)) == ["RUN-E015"]


def test_a_renewal_that_waits_is_not_forgotten(asked: Asked) -> None:
    renew(asked.certificates)
    assert codes(identity.findings(asked)) == ["RUN-W011"]


def test_an_authority_is_judged_by_the_clock_that_is_given(asked: Asked) -> None:
    later = datetime.now(UTC) + timedelta(days=340)
    assert codes(identity.findings(asked, now=lambda: later)) == ["RUN-W010", "RUN-W010"]


def test_a_superlink_that_is_not_there_fails_on_both_ports(asked: Asked) -> None:
    assert codes(superlink.findings(asked)) == ["STUDY-E093", "RUN-E020"]


def test_the_fleet_port_is_reached_as_a_hospital_does(asked: Asked) -> None:
    other = show(asked, STUDY, tls.server(STUDY))
    with fleet(tls.server(STUDY)) as served:
        (*_, good) = superlink.findings(replace(other, fleet=served.address))
    assert (good.check, good.status) == ("Fleet API", "pass")
    with fleet(tls.server(STUDY, ["fl.example.org"])) as served:
        assert codes(superlink.findings(replace(other, fleet=served.address)))[-1] == "RUN-E011"
    with fleet(None) as served:
        assert codes(superlink.findings(replace(other, fleet=served.address)))[-1] == "RUN-E020"
    with tls.tls_server(tls.server(STUDY), asked.results, protocols=("http/1.1",)) as address:
        assert codes(superlink.findings(replace(other, fleet=address)))[-1] == "RUN-E020"


@pytest.mark.parametrize(("host", "code"), [("127.0.0.1", []), ("0.0.0.0", ["RUN-W021"])])
def test_a_control_port_that_others_reach_is_seen_in_the_machines_own_table(host: str, code: list[str]) -> None:
    with socket.create_server((host, 0)) as listener:
        assert codes(open_to(f"127.0.0.1:{listener.getsockname()[1]}")) == code


HEAD = "  sl  local_address rem_address   st tx_queue rx_queue\n"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("0: 0100007F:1F40 00000000:0000 0A 0", "127.0.0.1"),
        ("0: 0100007F:1F40 00000000:0000 01 0", None),
        ("0: 00000000:1F41 00000000:0000 0A 0", None),
        ("0: 0000000000000000FFFF00000100007F:1F40 0:0 0A 0", "127.0.0.1"),
        ("0: 00000000000000000000000001000000:1F40 0:0 0A 0", "::1"),
        ("0: B80D01200000000000000000EFBE0000:1F40 0:0 0A 0", "2001:db8::beef"),
    ],
)
def test_tables_of_the_kernel_are_read_in_its_order_of_bytes(line: str, found: str | None) -> None:
    assert [*map(str, listening(HEAD + line, 8000))] == ([found] if found else [])


def test_a_control_port_at_a_public_address_fails(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text(HEAD + "0: 08080808:1F40 00000000:0000 0A 0\n")
    assert ipaddress.ip_address("8.8.8.8").is_global
    assert codes(open_to("127.0.0.1:8000", (tmp_path / "tcp",))) == ["RUN-E021"]
    (nothing,) = open_to("127.0.0.1:8001", (tmp_path / "tcp",))
    assert nothing.status == "skip"


def test_hospitals_that_are_missing_are_named(asked: Asked) -> None:
    named = replace(asked, overrides=(*TINY, "sites=[hospital-a,hospital-b,hospital-c]"))
    moment = datetime.now(UTC)
    admitted = [
        Admitted("hospital-a", "online", moment, moment, "SHA256:a", 1),
        Admitted("hospital-b", "offline", moment, moment, "SHA256:b", 2),
        Admitted("hospital-c", "revoked", moment, moment, "SHA256:c", 3),
    ]
    found = {finding.check: finding for finding in hospitals(named, admitted)}
    assert {name: finding.status for name, finding in found.items()} == {
        "hospital-a": "pass",
        "hospital-b": "warn",
        "hospital-c": "warn",
    }
    assert "not admitted" in found["hospital-c"].what
    assert codes(hospitals(asked, [])) == ["RUN-W022"]


def test_the_machine_is_judged(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in machine.QUIET.items():
        monkeypatch.setenv(name, value)
    asked.results.parent.chmod(0o755)
    assert codes(machine.findings(asked)) == []
    assert not asked.results.exists(), "the doctor makes no folder"
    assert asked.database
    asked.database.chmod(0o644)
    monkeypatch.delenv("FLWR_TELEMETRY_ENABLED")
    monkeypatch.setattr(machine, "LEAST_FREE", 1e18)
    monkeypatch.setattr(machine, "version", lambda _: "1.41.0")
    reachable = machine._database(asked.database).code
    assert reachable == ("RUN-E023" if asked.database.parent.stat().st_mode & 0o001 else "")
    assert codes(machine.findings(asked))[-3:] == ["RUN-W024", "RUN-E025", "RUN-W025"]
    assert machine._database(asked.results / "none.db").code == "RUN-W023"
    assert machine._database(None).status == "skip"


def test_a_folder_that_cannot_be_written_fails(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", full)
    finding = machine._writable("results", asked.results)
    assert (finding.code, "No space left" in finding.what) == ("RUN-E024", True)


def test_a_study_that_composes_and_has_what_it_needs_passes(asked: Asked) -> None:
    assert [(finding.check, finding.status) for finding in study.findings(asked)] == [
        ("settings", "pass"),
        ("weights", "pass"),
    ]


def test_what_a_study_lacks_is_told_with_its_own_code(asked: Asked, tmp_path: Path) -> None:
    assert codes(study.findings(replace(asked, overrides=("epsilonn=1",)))) == ["STUDY-E001"]
    nowhere = ("experiment=demo", "model.source=directory", f"model.location={tmp_path}")
    assert codes(study.findings(replace(asked, overrides=nowhere)))[0] == "MODEL-E140"
    texts = ("experiment=demo", "model=tiny", f"explainability.reference={tmp_path / 'none.csv'}")
    assert codes(study.findings(replace(asked, overrides=texts))) == ["STUDY-E082"]


def test_a_group_that_breaks_is_a_finding_and_the_others_are_looked_at(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Asked) -> Iterator[Finding]:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setitem(visit.GROUPS, "certificates", broken)
    examination = visit.examine(asked, ("certificates", "study"))
    assert [finding.code for finding in examination.findings if finding.status == "fail"] == ["RUN-E002"]
    assert "foresaw" not in str(examination)
    assert examination.exit_code == 2
    assert {finding.group for finding in examination.findings} == {"certificates", "study"}


Invoke = Callable[..., object]


def test_the_command_speaks_to_people_machines_and_reviewers(asked: Asked, tmp_path: Path) -> None:
    command = ["doctor", *TINY, "--certificates", str(asked.certificates), "--group", "certificates"]
    assert CliRunner().invoke(app, command).exit_code == 0
    told = CliRunner().invoke(app, [*command, "--json", "--html", str(tmp_path / "page.html")])
    assert json.loads(told.output)["status"] == "pass"
    assert "<html" in (tmp_path / "page.html").read_text()
    (asked.certificates / "server.key").chmod(0o644)
    failed = CliRunner().invoke(app, command)
    assert failed.exit_code == 2
    assert "RUN-E014" in failed.output
    unwritten = CliRunner().invoke(app, [*command, "--html", str(tmp_path / "nowhere" / "page.html")])
    assert unwritten.exit_code == 1
    assert "REPORT-E003" in unwritten.output

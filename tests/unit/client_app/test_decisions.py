"""Decisions stand in the audit log as well: an approvals file that says otherwise lets nothing through."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from client_app import chain
from client_app.approvals import FILE, LOCK, Approvals, study_hash
from client_app.audit_log import FILE as LOG
from client_app.audit_log import AuditLog
from client_app.cli import app
from client_app.seals import line_of
from fedfm.config.compose import load_site, study_to_json
from fedfm.errors import DataError, FedFMError
from tests.unit.client_app import ward
from tests.unit.client_app.test_approvals import NOW, refused, site_in, study
from tests.unit.fedfm.test_config_site import GOOD


def copy_of(folder: Path, *names: str) -> Callable[[], None]:
    """Keep files with their drafts; return what puts them back, as a restored backup would."""
    kept = {path: path.read_bytes() for name in names for path in (folder / name, folder / f"{name}.next")}

    def put_back() -> None:
        for path, content in kept.items():
            path.write_bytes(content)

    return put_back


def test_an_older_approvals_file_does_not_undo_a_withdrawal(tmp_path: Path) -> None:
    site, wanted = site_in(tmp_path), study()
    digest = Approvals(site).approve(wanted, by="Ada", now=NOW).study
    put_back = copy_of(tmp_path, FILE)
    Approvals(site).withdraw(digest, by="Bo", now=NOW)
    put_back()
    assert refused(Approvals(site), wanted) == "SITE-E228"
    assert Approvals(site).disagreeing() == (digest,)
    other = study("rounds=4")  # of the others nothing is wrong
    Approvals(site).approve(other, by="Ada", now=NOW)
    Approvals(site).check(other)
    Approvals(site).withdraw(digest, by="Bo", now=NOW)  # the older file can be decided upon, and counts again
    assert refused(Approvals(site), wanted) == "SITE-E221"
    Approvals(site).approve(wanted, by="Ada", now=NOW)
    Approvals(site).check(wanted)
    assert Approvals(site).disagreeing() == ()


def test_a_lost_approvals_file_is_not_an_empty_one(tmp_path: Path) -> None:
    site, wanted = site_in(tmp_path), study()
    digest = Approvals(site).approve(wanted, by="Ada", now=NOW).study
    for name in (FILE, f"{FILE}.next"):
        (tmp_path / name).unlink()
    assert refused(Approvals(site), wanted) == "SITE-E228"
    Approvals(site).approve(Approvals(site).find(digest), by="Ada", now=NOW)  # it waits, to be looked at anew
    Approvals(site).check(wanted)


def test_an_approval_that_the_audit_log_has_not_lets_nothing_through(tmp_path: Path) -> None:
    """As one that was written by hand, or whose command was ended between the two files."""
    site, wanted = site_in(tmp_path), study()
    Approvals(site).approve(wanted, by="Ada", now=NOW)
    for name in (LOG, f"{LOG}.next"):
        (tmp_path / name).unlink()
    assert refused(Approvals(site), wanted) == "SITE-E228"


def test_each_decision_is_an_entry_of_the_audit_log(tmp_path: Path) -> None:
    site, wanted = site_in(tmp_path), study()
    AuditLog(tmp_path).entered("Train", b"x", run="r", round_=1)
    approvals = Approvals(site)
    digest = approvals.approve(wanted, by="Ada", now=NOW).study
    approvals.withdraw(digest, by="Bo", now=NOW)
    entries = AuditLog(tmp_path).entries()
    assert [(entry["direction"], entry["kind"]) for entry in entries] == [
        ("entered", "Train"),
        ("decided", "approve"),
        ("decided", "withdraw"),
    ]
    lines = [line_of(entry) for entry in chain.Chain(tmp_path / FILE).read()]
    assert [entry["bytes"] for entry in entries[1:]] == [len(line) for line in lines]
    assert {entry["study"] for entry in entries[1:]} == {digest}
    assert all(entry["policy"] and entry["fedfm"] for entry in entries[1:])
    assert "Ada" not in json.dumps(entries), "who decided stays in approvals.jsonl"
    assert approvals.log_head().entries == 3


def test_where_the_audit_log_cannot_be_written_nothing_is_approved(tmp_path: Path) -> None:
    site, wanted = site_in(tmp_path), study()
    approvals = Approvals(site)
    approvals.approve(wanted, by="Ada", now=NOW)
    (tmp_path / LOG).write_bytes(b"{}\n")
    with pytest.raises(DataError, match="SITE-E115"):
        Approvals(site).withdraw(study_hash(wanted), by="Bo", now=NOW)
    assert len(approvals.decisions()) == 1


def test_both_files_are_written_under_one_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else decides, or is answered, between the two lines of a decision."""
    seen, decided = [], AuditLog.decided

    def looks(log: AuditLog, *arguments: object, **named: object) -> None:
        handle = os.open(tmp_path / LOCK, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.close(handle)
        seen.append(True)
        decided(log, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(AuditLog, "decided", looks)
    approvals = Approvals(site_in(tmp_path))
    approvals.withdraw(approvals.approve(study(), by="Ada", now=NOW).study, by="Bo", now=NOW)
    assert len(seen) == 2
    handle = os.open(tmp_path / LOCK, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # and it is given back
    os.close(handle)


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    (tmp_path / "site.yaml").write_text(GOOD)
    (tmp_path / "policy.yaml").write_text("max_epsilon: 4.0\n")
    return tmp_path / "site.yaml"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "120"})


DECIDE = """
import datetime, sys
from pathlib import Path
from client_app.approvals import Approvals
from fedfm.config.compose import load_site, study_from_json
approvals, study = Approvals(load_site(Path(sys.argv[1]))), study_from_json(Path(sys.argv[2]).read_text())
for _ in range(20):
    now = datetime.datetime.now(datetime.UTC)
    approvals.withdraw(approvals.approve(study, by="Ada", now=now).study, by="Bo", now=now)
"""


def test_people_decide_while_a_trainer_writes_and_both_files_stay_whole(site_file: Path, tmp_path: Path) -> None:
    """Two commands in processes of their own, as in other containers, beside the trainer's log."""
    state, files = tmp_path / "state", []
    for number in range(2):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(study_to_json(study("rounds=4", f"seed={number}")))
    people = [subprocess.Popen([sys.executable, "-c", DECIDE, str(site_file), str(file)]) for file in files]
    log, approvals, written = AuditLog(state), Approvals(load_site(site_file)), 0
    while any(person.poll() is None for person in people):
        log.entered("Train", b"x", run="r", round_=1)
        assert approvals.disagreeing() == ()  # what the trainer sees of the two files is always one thing
        written += 1
    assert [person.wait() for person in people] == [0, 0]
    kinds = [entry["direction"] for entry in AuditLog(state).entries()]
    assert (kinds.count("decided"), kinds.count("entered")) == (80, written)
    assert len(Approvals(load_site(site_file)).decisions()) == 80


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_root_decides_first_the_trainers_user_can_go_on_with(tmp_path: Path) -> None:
    os.chown(tmp_path, 10001, 10001)
    Approvals(site_in(tmp_path)).approve(study(), by="Ada", now=NOW)
    owners = {path.name: path.stat().st_uid for path in tmp_path.iterdir()}
    assert {LOG, f"{LOG}.next", FILE, f"{FILE}.next", LOCK} <= set(owners)
    assert set(owners.values()) == {10001}


def test_the_commands_say_what_disagrees_and_what_to_note(site_file: Path, tmp_path: Path) -> None:
    state, file = tmp_path / "state", tmp_path / "study.json"
    file.write_text(study_to_json(study("training.sample_rate=1")))
    assert run("approve", site_file, file, "--yes", "hospital-a", "--by", "Ada").exit_code == 0
    put_back = copy_of(state, FILE)
    digest = next(iter(Approvals(load_site(site_file)).standing()))
    withdrawn = run("withdraw", site_file, digest, "--by", "Bo")
    head = AuditLog(state).head()
    assert f"{head.entries}:{head.seal}" in withdrawn.stdout
    assert run("audit", "verify", site_file).exit_code == 0
    shown = run("audit", "show", site_file, "--direction", "decided").stdout
    assert shown.count(digest[:12]) == 2
    assert run("audit", "export", site_file, tmp_path / "good").exit_code == 0
    assert run("audit", "verify", tmp_path / "good").exit_code == 0

    put_back()
    assert digest[:12] in run("approve", site_file).stdout.partition("not what the audit log")[2]
    assert json.loads(run("approve", site_file, "--json").stdout)["disagreeing"] == [digest]
    assert run("audit", "export", site_file, tmp_path / "bad.zip").exit_code == 0  # evidence is not held back
    for named in (site_file, tmp_path / "bad.zip"):
        verified = run("audit", "verify", named)
        assert (verified.exit_code, "SITE-E228" in verified.stderr) == (1, True)
    (tmp_path / "good" / FILE).unlink()
    assert "SITE-E228" in run("audit", "verify", tmp_path / "good").stderr


def test_a_decision_says_in_which_release_it_was_made(tmp_path: Path) -> None:
    approvals = Approvals(site_in(tmp_path))
    assert approvals.approve(study(), by="Ada", now=NOW).fedfm
    with pytest.raises(FedFMError):
        approvals.approve(study(), by="", now=NOW)
    assert len(AuditLog(tmp_path).entries()) == 1


def test_the_doctor_finds_an_older_approvals_file(tmp_path: Path) -> None:
    file = ward.make(tmp_path)
    named = ward.study(tmp_path)
    ward.approve(file, named)
    put_back = copy_of(tmp_path / "state", FILE)
    approvals = Approvals(load_site(file))
    approvals.withdraw(next(iter(approvals.standing())), by="Bo", now=NOW)
    assert "SITE-E228" not in ward.problems(ward.examined(file, "privacy"))
    put_back()
    assert "SITE-E228" in ward.problems(ward.examined(file, "privacy"))

"""The head of the audit log: what an answer states, and what is refused when the log no longer holds it."""

import threading
from pathlib import Path

import pytest

from client_app.audit_log import FILE, AuditLog
from client_app.trainer.service import MOST_AT_ONCE, Service
from client_app.trainer.warm import Trainer
from fedfm.config.compose import load_site
from fedfm.config.policy import policy_hash
from fedfm.wire import Head
from tests.integration.boundary import Hospital, asked, hospital_in


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """One whose budget hardly ends, for the requests of many examples."""
    return hospital_in(tmp_path_factory.mktemp("boundary") / "a", policy="max_epsilon: 100")


@pytest.fixture
def own(tmp_path: Path) -> Hospital:
    return hospital_in(tmp_path / "a")


def test_an_answer_states_the_head_before_its_own_entry(own: Hospital) -> None:
    """The request is in it, the answer is not; each entry names the release and the policy that judged."""
    stated = []
    for name, part in (("Describe", "description"), ("Train", "reply"), ("Evaluate", "reply")):
        answer = own.ask(name, asked(name))
        privacy = getattr(answer, part).privacy
        entries = AuditLog(own.folder / "state").entries()
        assert (entries[-1]["direction"], entries[-1]["kind"]) == ("left", f"{name}Answer")
        assert Head(privacy.audit_entries, privacy.audit_seal) == Head(len(entries) - 1, entries[-2]["seal"])
        assert entries[-2]["direction"] == "entered"
        stated.append(privacy.audit_entries)
    assert stated == [1, 3, 5]
    site = load_site(own.folder / "site.yaml")
    assert {entry["policy"] for entry in entries} == {policy_hash(site.policy)}
    assert all(entry["fedfm"] for entry in entries)


def test_the_log_has_the_hash_of_the_very_bytes_that_entered_and_left(own: Hospital) -> None:
    import hashlib  # noqa: PLC0415

    for data in (asked("Describe").SerializeToString(), b"\xff no message"):
        answer = own.service.answer("Describe", data)
        entered, left = AuditLog(own.folder / "state").entries()[-2:]
        assert entered["sha256"] == hashlib.sha256(data).hexdigest()
        assert left["sha256"] == hashlib.sha256(answer).hexdigest()


def _cut(path: Path, *, keep: int) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:keep]))
    path.with_name(f"{path.name}.next").unlink(missing_ok=True)


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_a_log_that_was_cut_is_refused_by_what_the_coordinator_heard_and_the_site_stays_online(
    own: Hospital, keep: int
) -> None:
    for name in ("Describe", "Evaluate"):
        own.ask(name, asked(name))
    told = own.ask("Describe", asked("Describe")).description.privacy
    path = own.folder / "state" / FILE
    newest = path.read_bytes()
    _cut(path, keep=keep)
    restarted = Hospital(own.folder, Service(Trainer(load_site(own.folder / "site.yaml"))))
    message = asked("Train")
    message.audit_entries, message.audit_seal = told.audit_entries, told.audit_seal
    for _ in range(6):  # refusals make the log longer; its entries are others
        assert restarted.ask("Train", message).refusal.code == "SITE-E118"
    restarted.good()  # of a coordinator that has heard nothing
    path.write_bytes(newest)
    path.with_name(f"{FILE}.next").unlink()
    again = Hospital(own.folder, Service(Trainer(load_site(own.folder / "site.yaml"))))
    assert again.ask("Train", message).HasField("reply")


def test_a_coordinator_that_says_back_what_it_heard_is_answered_whatever_it_heard_last(own: Hospital) -> None:
    heard = [Head()]
    for _ in range(3):
        privacy = own.good().description.privacy
        heard.append(Head(privacy.audit_entries, privacy.audit_seal))
    for head in heard:
        message = asked("Describe")
        message.audit_entries, message.audit_seal = head
        assert own.ask("Describe", message).HasField("description")


def test_concurrent_answers_state_heads_that_the_log_holds(hospital: Hospital) -> None:
    told: list[Head] = []

    def ask() -> None:
        privacy = hospital.good().description.privacy
        told.append(Head(privacy.audit_entries, privacy.audit_seal))

    threads = [threading.Thread(target=ask) for _ in range(MOST_AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = AuditLog(hospital.folder / "state")
    assert len(told) == MOST_AT_ONCE
    for head in told:
        log.check_not_older(head)

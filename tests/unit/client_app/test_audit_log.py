"""The audit log itself: whole under many threads, and true to the heads that were told of it."""

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_app.audit_log import FILE, AuditLog
from fedfm.errors import FedFMError, PolicyError
from fedfm.wire import Head


def test_many_threads_write_one_whole_log(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    threads = [
        threading.Thread(target=lambda: [log.entered("Train", b"x", run="r", round_=n) for n in range(20)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(AuditLog(tmp_path).entries()) == 160


@settings(deadline=None)  # each writes and reads a file
@given(kept=st.integers(0, 6), told=st.integers(0, 6))
def test_a_log_holds_exactly_the_heads_that_it_goes_on_from(
    tmp_path_factory: pytest.TempPathFactory, kept: int, told: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log, heads = AuditLog(folder), [Head()]
    for number in range(6):
        log.entered("Train", b"x", run="r", round_=number)
        heads.append(log.head())
    path = folder / FILE
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:kept]))
    path.with_name(f"{FILE}.next").unlink()
    again = AuditLog(folder)
    if told <= kept:
        again.check_not_older(heads[told])
    else:
        with pytest.raises(PolicyError, match="SITE-E118"):
            again.check_not_older(heads[told])


@pytest.mark.parametrize(
    "head", [Head(2**64 - 1, "a" * 64), Head(1, ""), Head(1, "a" * 64), Head(-1, "a" * 64), Head(-1, "")]
)
def test_an_absurd_head_is_refused_in_the_same_words_and_changes_nothing(tmp_path: Path, head: Head) -> None:
    log = AuditLog(tmp_path)
    log.entered("Train", b"x", run="r", round_=1)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(FedFMError) as refused:
        log.check_not_older(head)
    assert str(refused.value).startswith("SITE-E118 the audit log is older than the one that the coordinator has heard")
    assert str(head.entries) not in str(refused.value).replace("SITE-E118", "")
    assert (tmp_path / FILE).read_bytes() == before

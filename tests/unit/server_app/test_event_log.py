"""The file of events after a crash, on a full disk, and with bytes that are no text."""

import errno
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from fedfm.errors import WireError
from server_app.report import events
from server_app.report.event_log import read_events
from server_app.report.page import write_report
from tests.unit.server_app.test_report import a_run, kept


def test_a_line_that_was_cut_off_inside_a_character_is_left_out_too(tmp_path: Path) -> None:
    path = kept(tmp_path, [*a_run(), events.SiteLeftOut("hospital-c", 1, "training", "SITE-E1", "“quoted”")])
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex("”".encode()) + 1])
    assert read_events(path) == a_run()
    assert write_report(tmp_path).status == "completed"


def test_a_line_that_is_no_text_is_refused_with_its_number(tmp_path: Path) -> None:
    path = kept(tmp_path, a_run()[:1])
    path.write_bytes(path.read_bytes() + b'{"kind": "\xe2"}\n')
    with pytest.raises(WireError, match=r"REPORT-E002.*events.jsonl:2"):
        read_events(path)


@pytest.mark.parametrize("is_full", [False, True])
def test_a_short_write_is_finished_or_taken_back(
    is_full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sizes = os.write, iter([7, 0 if is_full else 5, None, None])

    def short(descriptor: int, content: bytes) -> int:
        size = next(sizes)
        if size == 0:
            raise OSError(errno.ENOSPC, "no space left on device")
        return real(descriptor, content[:size])

    path = kept(tmp_path, a_run()[:1])
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space") if is_full else nullcontext():
        patch.setattr(os, "write", short)
        kept(tmp_path, a_run()[1:2])
    kept(tmp_path, a_run()[2:3])
    assert read_events(path) == [a_run()[0], *([] if is_full else [a_run()[1]]), a_run()[2]]

"""What waits for a hospital's people: bounded, never pushed out, safe under several writers; none blocks the rest."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client_app import pending as module
from client_app.approvals import Approvals, study_hash
from client_app.pending import FOLDER, MOST, Pending
from fedfm.errors import DataError, PolicyError
from tests.unit.client_app.test_approvals import NOW, refused, site_in, study

HONEST = study()


def noise(seed: int) -> Any:
    return replace(HONEST, seed=1000 + seed)


def state_of(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / FOLDER).iterdir()}


def test_an_honest_study_is_not_pushed_out_by_what_comes_later(tmp_path: Path) -> None:
    approvals = Approvals(site_in(tmp_path))
    assert refused(approvals, HONEST) == "SITE-E220"
    codes = [refused(approvals, noise(seed)) for seed in range(MOST + 5)]
    assert codes == ["SITE-E220"] * (MOST - 1) + ["SITE-E219"] * 6
    waiting = approvals.waiting()
    assert waiting.is_full
    assert len(waiting.studies) == MOST
    assert waiting.studies[study_hash(HONEST)] == HONEST
    before = state_of(tmp_path)
    assert all((tmp_path / FOLDER / name).stat().st_mode & 0o077 == 0 for name in before)
    assert refused(approvals, HONEST) == "SITE-E220"  # asked again, it is not written again
    assert state_of(tmp_path) == before
    approvals.approve(HONEST, by="Ada", now=NOW)
    approvals.check(HONEST)
    assert refused(approvals, noise(MOST + 4)) == "SITE-E220"  # its place is free


def test_where_no_place_is_left_the_refusal_says_so_and_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    approvals = Approvals(site_in(tmp_path))
    for seed in range(MOST):
        refused(approvals, noise(seed))
    with pytest.raises(PolicyError, match=r"SITE-E219.*20 others wait already.*config\.resolved\.json"):
        approvals.check(HONEST)
    assert "20 wait already" in caplog.text
    approvals.approve(HONEST, by="Ada", now=NOW)  # from its file
    approvals.check(HONEST)


def test_a_study_that_is_too_large_is_not_kept_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST", 100)
    assert refused(Approvals(site_in(tmp_path)), HONEST) == "SITE-E219"
    assert not (tmp_path / FOLDER).exists()


def test_many_at_once_keep_the_bound_and_lose_nothing(tmp_path: Path) -> None:
    """Trainers of one hospital that are all asked, while its people decide and look."""

    def asking(first: int) -> None:
        approvals = Approvals(site_in(tmp_path))
        for seed in range(first, first + 12):
            with pytest.raises(PolicyError, match=r"SITE-E2(20|19)"):
                approvals.check(noise(seed))

    def looking(times: int) -> None:
        approvals = Approvals(site_in(tmp_path))
        for _ in range(times):
            found = approvals.waiting()
            assert found.unreadable == {}
            for digest in list(found.studies)[:2]:
                approvals._pending.remove(digest)

    with ThreadPoolExecutor(6) as threads:
        jobs = [threads.submit(asking, first) for first in (0, 6, 12, 18)]
        jobs += [threads.submit(looking, 20) for _ in range(2)]
    for job in jobs:
        job.result()
    assert len(list((tmp_path / FOLDER).iterdir())) <= MOST


def test_the_last_place_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that both saw it free: the second looks again when the first has written."""
    for seed in range(MOST - 1):
        Pending(tmp_path).keep(noise(seed), study_hash(noise(seed)))
    inside, real, told = threading.Event(), module.keep, []

    def slow(path: Path, content: bytes) -> None:
        inside.set()
        other.start()
        other.join(0.2)  # it waits for the lock
        real(path, content)

    monkeypatch.setattr(module, "keep", slow)
    first = threading.Thread(target=lambda: told.append(Pending(tmp_path).keep(noise(98), study_hash(noise(98)))))
    other = threading.Thread(target=lambda: told.append(Pending(tmp_path).keep(noise(99), study_hash(noise(99)))))
    first.start()
    first.join()
    other.join()
    assert sorted(map(bool, told)) == [False, True]
    assert len(list((tmp_path / FOLDER).iterdir())) == MOST


def test_a_file_that_goes_while_it_is_looked_at_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    approvals = Approvals(site_in(tmp_path))
    refused(approvals, HONEST)
    refused(approvals, noise(1))
    real = Path.glob

    def going(self: Path, pattern: str) -> list[Path]:
        found = list(real(self, pattern))
        (self / f"{study_hash(noise(1))}.json").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "glob", going)
    assert approvals.waiting().studies == {study_hash(HONEST): HONEST}
    assert approvals.waiting().unreadable == {}


def older(folder: Path) -> str:
    """Keep a study of an older release, whole in itself; return its hash."""
    tree = {"name": "old", "rounds": 3, "a_setting_of_old": 1}
    text = json.dumps(tree)
    digest = module.hashlib.sha256(text.encode()).hexdigest()
    (folder / FOLDER).mkdir(exist_ok=True)
    (folder / FOLDER / f"{digest}.json").write_text(text)
    return digest


def test_one_of_an_older_release_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    approvals = Approvals(site_in(tmp_path))
    digest = older(tmp_path)
    assert refused(approvals, HONEST) == "SITE-E220"
    found = approvals.waiting()
    assert list(found.studies) == [study_hash(HONEST)]
    assert list(found.unreadable) == [digest]
    assert "SITE-E225" in str(found.unreadable[digest])
    assert "remove the file" in str(found.unreadable[digest])
    assert approvals.find(study_hash(HONEST)[:8]) == HONEST
    with pytest.raises(DataError, match="SITE-E225"):
        approvals.find(digest[:8])


def test_a_decision_about_a_study_of_an_older_release_stands_in_nobodys_way(tmp_path: Path) -> None:
    approvals = Approvals(site_in(tmp_path))
    old = approvals.approve(HONEST, by="Ada", now=NOW)
    body = {name: getattr(old, name) for name in old.__annotations__}
    approvals._chain.append(body | {"study": "ab" * 32, "resolved": '{"name": "old"}'})
    approvals.check(HONEST)
    assert approvals.find(old.study[:8]) == HONEST
    with pytest.raises(DataError, match="SITE-E229"):
        approvals.find("ab" * 6)


def test_a_folder_that_may_not_be_written_has_a_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: Any, **__: Any) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(DataError, match=r"SITE-E163.*Read-only"):
        Pending(tmp_path).keep(HONEST, study_hash(HONEST))

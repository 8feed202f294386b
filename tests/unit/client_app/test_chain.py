"""What a sealed file is checked for, and when: no byte is read again while nobody touched it; a touch always shows."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from client_app import chain as module
from client_app.chain import COMPARED_FOR, Chain
from fedfm.errors import DataError


class Clock:
    """Seconds that pass when the test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def read_again(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what was read of the file, one for each time."""
    sizes, real = [], module._bytes_of

    def counted(file: int) -> bytes:
        content = real(file)
        sizes.append(len(content))
        return content

    monkeypatch.setattr(module, "_bytes_of", counted)
    return sizes


def chain_in(folder: Path, clock: Clock, entries: int = 3) -> Chain:
    chain = Chain(folder / "x.jsonl", clock=clock)
    for number in range(entries):
        chain.append({"kind": str(number)})
    return chain


def test_a_file_that_nobody_touched_is_read_once(tmp_path: Path, clock: Clock, read_again: list[int]) -> None:
    chain_in(tmp_path, clock)
    read_again.clear()
    chain = Chain(tmp_path / "x.jsonl", clock=clock)
    for _ in range(10):
        chain.append({"kind": "more"})
        assert chain.holds(chain.head())
        chain.read()
    assert len(read_again) == 1
    assert len(Chain(tmp_path / "x.jsonl").read()) == 13


def test_a_minute_later_its_bytes_are_compared_again(tmp_path: Path, clock: Clock, read_again: list[int]) -> None:
    chain = chain_in(tmp_path, clock)
    read_again.clear()
    clock.now += COMPARED_FOR - 1
    chain.read()
    assert read_again == []
    clock.now += 2
    chain.read()
    chain.read()
    assert len(read_again) >= 1


def same_size(path: Path) -> None:
    path.write_text(path.read_text().replace('"kind": "1"', '"kind": "9"'))


def in_place(path: Path) -> None:
    at = path.read_bytes().index(b'"kind": "1"')
    with path.open("r+b") as file:
        file.seek(at + 9)
        file.write(b"9")


def swapped(path: Path) -> None:
    first, second, *others = path.read_text().splitlines(keepends=True)
    path.write_text("".join([second, first, *others]))


def exchanged(path: Path) -> None:
    other = path.with_name("other")
    other.write_text(path.read_text().replace('"kind": "1"', '"kind": "9"'))
    kept = path.stat()
    os.utime(other, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    other.replace(path)


def cut(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    path.with_name("x.jsonl.next").unlink()


def gone(path: Path) -> None:
    path.unlink()


TOUCHES = [same_size, in_place, swapped, exchanged, cut, gone]


@pytest.mark.parametrize("touch", TOUCHES, ids=[touch.__name__ for touch in TOUCHES])
@pytest.mark.parametrize("how", ["read", "append"])
def test_a_touch_right_after_our_own_write_shows(
    tmp_path: Path, clock: Clock, touch: Callable[[Path], None], how: str
) -> None:
    """Within the same tick of the clock too: each is tried many times, as fast as can be."""
    for attempt in range(20):
        chain = chain_in(tmp_path / str(attempt), clock)
        touch(chain.path)
        with pytest.raises(DataError, match="SITE-E115"):
            chain.read() if how == "read" else chain.append({"kind": "x"})


def test_a_touch_that_hides_its_time_shows_a_minute_later(tmp_path: Path, clock: Clock) -> None:
    """Nobody can, but for who changes the clock of the machine: planted here."""
    chain = chain_in(tmp_path, clock)
    same_size(chain.path)
    chain._known = module.look(chain.path), module.look(chain._draft)
    chain.read()
    clock.now += COMPARED_FOR
    with pytest.raises(DataError, match="SITE-E115"):
        chain.read()


def test_what_another_process_adds_is_verified_and_gone_on_from(tmp_path: Path, clock: Clock) -> None:
    ours, theirs = chain_in(tmp_path, clock), Chain(tmp_path / "x.jsonl")
    theirs.append({"kind": "theirs"})
    assert ours.append({"kind": "ours"})["n"] == 5
    assert len(theirs.read()) == 5
    lines = ours.path.read_text().splitlines()
    body = json.loads(lines[-1])
    seal = body.pop("seal")
    assert seal == hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def test_a_line_that_another_process_had_begun_is_finished(tmp_path: Path, clock: Clock) -> None:
    """It died between its draft and its line: the draft alone has changed."""
    ours, theirs = chain_in(tmp_path, clock), Chain(tmp_path / "x.jsonl")
    whole = ours.path.read_bytes()
    theirs.append({"kind": "theirs"})
    kept = ours.path.stat()
    with ours.path.open("r+b") as file:
        file.truncate(len(whole))
    os.utime(ours.path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    ours._known = module.look(ours.path), ours._known[1]  # type: ignore[index] # as if its line had never been begun
    assert [entry["kind"] for entry in ours.read()] == ["0", "1", "2", "theirs"]


def test_where_a_file_of_another_user_cannot_be_marked_it_is_read_each_time(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, read_again: list[int]
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("client_app.looks.os.utime", refused)
    chain = chain_in(tmp_path, clock)
    read_again.clear()
    chain.read()
    chain.append({"kind": "x"})
    assert len(read_again) == 2


@pytest.mark.parametrize("code", ["SITE-E115", "SITE-E150"])
def test_an_error_names_the_file_and_its_folder_stays_in_the_log(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    chain = chain_in(tmp_path, clock)
    if code == "SITE-E115":
        same_size(chain.path)
    else:

        def refused(*_: object, **__: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("client_app.chain.os.open", refused)
    with caplog.at_level(logging.WARNING), pytest.raises(DataError, match=code) as caught:
        chain.read()
    assert str(tmp_path) not in str(caught.value)
    assert "state of site.yaml: x.jsonl" in str(caught.value)
    assert str(chain.path) in caplog.text

"""A run on disk: after every step all that its next step needs, whole or not at all.

A checkpoint is a few files of one round and ``checkpoint-NNNN.json``, which names them with their hashes and is written
after them; ``checkpoint.json`` is a copy of the newest. The last two rounds stay, so that a damaged file costs a round
and not the run.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedfm.arrays import Arrays, from_bytes, layout, to_bytes
from fedfm.errors import EngineError

TRAINED, EVALUATED = "trained", "evaluated"
"""What was done last in the round of a checkpoint."""

_KEPT_ROUNDS = 2


@dataclass(frozen=True)
class Checkpoint:
    """A run between two steps.

    Attributes:
        round: Its last round; 0 before the first.
        phase: What was done last in it, ``TRAINED`` or ``EVALUATED``.
        parameters: float32 global parameters.
        beside: What rules, signals and judgements keep: kind to contents.
        events: Length of the event log then, in bytes.
    """

    round: int
    phase: str
    parameters: Arrays
    beside: Mapping[str, bytes] = field(default_factory=dict)
    events: int = 0


def keep_checkpoint(folder: Path, checkpoint: Checkpoint, *, others: Collection[int] = ()) -> None:
    """Write a checkpoint; when this returns it survives a crash of the process and of the machine.

    Those of earlier rounds are deleted, but for the one before, and those of the rounds ``others``.

    Raises:
        EngineError: It cannot be written; the one before is as it was.
    """
    number = checkpoint.round
    name, list_of = f"{_stem(number)}.safetensors", f"{_stem(number)}.json"
    files = {name: to_bytes(checkpoint.parameters)}
    files |= {f"{_stem(number)}-{checkpoint.phase}-{kind}": data for kind, data in checkpoint.beside.items()}
    described = {
        "round": number,
        "phase": checkpoint.phase,
        "layout": layout(checkpoint.parameters),
        "events": checkpoint.events,
        "file": name,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    text = json.dumps(described, indent=2).encode()
    try:
        for name, data in files.items():
            write_whole(folder / name, data)
        for name in (list_of, "checkpoint.json"):
            write_whole(folder / name, text)
    except OSError as problem:
        raise EngineError(
            "RUN-E005",
            f"the checkpoint of round {number} cannot be written",
            where=str(folder),
            found=problem.strerror or type(problem).__name__,
            fix="free space or mend the rights, then resume the run: the checkpoint before is whole",
        ) from problem
    stay = {*range(number - _KEPT_ROUNDS + 1, number), *others} - {number}
    for path in folder.glob("checkpoint-*"):
        if _round_of(path) not in stay and path.name not in {*files, list_of}:
            path.unlink()


def take_checkpoint(folder: Path, *, round_number: int) -> Checkpoint:
    """Return the checkpoint of a round.

    Raises:
        EngineError: A file of it is missing or damaged; names the file.
    """
    return _read(folder, f"{_stem(round_number)}.json")


def keep_only(folder: Path, *, round_number: int) -> None:
    """Make the checkpoint of a round the only one: that of the result."""
    write_whole(folder / "checkpoint.json", (folder / f"{_stem(round_number)}.json").read_bytes())
    for path in folder.glob("checkpoint-*"):
        if _round_of(path) != round_number:
            path.unlink()


def newest_checkpoint(folder: Path) -> tuple[Checkpoint | None, tuple[str, ...]]:
    """Return the newest checkpoint that is whole, None where none was written, and what is wrong with newer ones.

    Raises:
        EngineError: Some were written, and none is whole.
    """
    names = sorted(path.name for path in folder.glob("checkpoint-*.json") if path.stem == _stem(_round_of(path)))
    damaged: list[str] = []
    for name in reversed(names):
        try:
            return _read(folder, name), tuple(damaged)
        except EngineError as problem:
            damaged.append(f"round {_round_of(folder / name)}: {problem.found}")
    if damaged or any(folder.glob("checkpoint*")):
        raise EngineError(
            "RUN-E006",
            "no checkpoint of the run is whole",
            where=str(folder),
            found="; ".join(damaged) or "files of checkpoints without the list of them",
            fix="put the folder back from a copy, or start a new run; begun anew under its name, this one would ask "
            "the sites for rounds that they have paid for",
        )
    return None, ()


def keep_statistics(folder: Path, statistics: Arrays) -> None:
    """Write what the model's input is standardised by beside the checkpoints, which mean nothing without it."""
    write_whole(folder / _STATISTICS, to_bytes(statistics))


def take_statistics(folder: Path) -> Arrays:
    """Return what ``keep_statistics`` wrote; empty where nothing was pooled."""
    path = folder / _STATISTICS
    return from_bytes(path.read_bytes()) if path.exists() else {}


def not_of_this_release(folder: Path, *, found: str) -> EngineError:
    """Return the error for a run that this release cannot go on with."""
    return EngineError(
        "RUN-E009",
        "the checkpoint is of another model, or of another release of fedfm",
        where=str(folder),
        found=found,
        fix="resume the run with the release and the weights that it was started with",
    )


_STATISTICS = "statistics.safetensors"


def _read(folder: Path, name: str) -> Checkpoint:
    try:
        told: dict[str, Any] = json.loads((folder / name).read_bytes())
        files = dict(_checked(folder, told["files"]))
        parameters = files[told["file"]]
        start = f"{_stem(told['round'])}-{told['phase']}-"
        beside = {file.removeprefix(start): data for file, data in files.items() if file.startswith(start)}
        return Checkpoint(int(told["round"]), str(told["phase"]), from_bytes(parameters), beside, int(told["events"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        found = str(problem) if isinstance(problem, _Damaged) else f"{name} cannot be read ({type(problem).__name__})"
        raise EngineError("RUN-E006", "a checkpoint is damaged", where=str(folder / name), found=found) from problem


class _Damaged(ValueError):
    """Names the file."""


def _checked(folder: Path, files: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    for name, expected in files.items():
        path = folder / Path(name).name
        data = path.read_bytes() if path.exists() else None
        if data is None or hashlib.sha256(data).hexdigest() != expected:
            raise _Damaged(f"{name} is {'missing' if data is None else 'not what was written'}")
        yield name, data


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; it and its name are on disk when this returns."""
    partial = path.with_suffix(f"{path.suffix}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stem(round_number: int) -> str:
    return f"checkpoint-{round_number:04d}"


def _round_of(file: Path) -> int:
    return int(file.name.split("-")[1].partition(".")[0])

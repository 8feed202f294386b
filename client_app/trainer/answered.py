"""A question is answered once: asked again, a site says again what it has said, with the same noise and no new charge.

A coordinator that was interrupted asks the same again, and a message may come twice. The answer lies on disk before it
leaves, under the question that it answers; that it leaves is noted in the ledger before. Where a trainer was killed in
between, nothing has left: asked the same again, it computes anew, with new noise, on the charge that is there.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Proto

from client_app.asked import Round
from client_app.own_files import keep
from client_app.trainer import messages, outgoing
from client_app.trainer import trainer_pb2 as pb
from fedfm.arrays import to_bytes
from fedfm.config.compose import study_to_json
from fedfm.config.site import Site
from fedfm.config.study import Study
from fedfm.wire import EvaluateReply, Request, TrainReply

Reply = TypeVar("Reply", TrainReply, EvaluateReply)

KEPT_ROUNDS = 2
"""Answers of so many rounds of a run are kept: a coordinator that lost its last checkpoint asks for the one before."""

KEPT_DAYS = 30.0
"""Days after which an answer of any run is deleted, when another is kept."""

_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Kind(Generic[Reply]):
    """A kind of question, and how its answers lie on disk."""

    name: str
    pack: Callable[[Reply], Proto]
    unpack: Callable[[Any], Reply]
    message: type[Any]


TRAIN = Kind("train", messages.train_reply_to_proto, messages.train_reply_from_proto, pb.TrainReply)
EVALUATE = Kind("evaluate", messages.evaluate_reply_to_proto, messages.evaluate_reply_from_proto, pb.EvaluateReply)


def question_of(request: Request, study: Study, site: Site, kind: str) -> str:
    """Return the fingerprint of what is asked, of whom: equal only where all that the answer is made of is.

    The hospital's own file and policy are in it: an answer that was made under others is not said again. What the
    coordinator remembers of ledger and audit log is not; it is another each time.
    """
    told = hashlib.sha256()
    arrays = (request.parameters, request.frozen, request.statistics)
    own = json.dumps(asdict(site), sort_keys=True, default=str)
    for part in (kind, request.run, str(request.round), study_to_json(study), request.layout, own):
        told.update(hashlib.sha256(part.encode()).digest())
    for each in arrays:
        told.update(hashlib.sha256(to_bytes(each)).digest())
    return told.hexdigest()


def once(kind: Kind[Reply], how: Callable[[Round], Reply]) -> Callable[[Round], Reply]:
    """Return ``how``, but for a question that was answered before: to that the answer is what it was."""

    def answer(asked: Round) -> Reply:
        again = answer_again(asked, kind)
        if again is not None:
            return again
        reply = how(asked)
        outgoing.check(reply, asked)
        keep_answer(asked, kind, reply)
        return reply

    return answer


def answer_again(asked: Round, kind: Kind[Reply]) -> Reply | None:
    """Return what was answered to this very question, with the ledger as it is now; None where nothing is kept.

    A file that cannot be read is as if it were not there: the question is then answered anew, and charged.
    """
    try:
        data = asked.answer(kind.name).read_bytes()
        if data[:_DIGEST_BYTES].hex() != asked.question:
            return None
        reply = kind.unpack(kind.message.FromString(data[_DIGEST_BYTES:]))
    except (OSError, DecodeError, ValueError):
        return None
    return replace(reply, privacy=asked.spent())


def keep_answer(asked: Round, kind: Kind[Reply], reply: Reply) -> None:
    """Keep an answer, on disk when this returns; those of earlier rounds, and of runs long ago, are deleted.

    Raises:
        DataError: It cannot be written; it must not leave.
    """
    path = asked.answer(kind.name)
    keep(path, bytes.fromhex(asked.question) + kind.pack(reply).SerializeToString(deterministic=True))
    now = time.time()
    for other in path.parent.glob("answer-*.bin"):
        if now - other.stat().st_mtime > 86400 * KEPT_DAYS or _is_before(other, path):
            other.unlink(missing_ok=True)


def _is_before(other: Path, path: Path) -> bool:
    """Whether a file holds an answer of the same kind and run, of a round that is no longer kept."""
    kind, number, of = _parts(path)
    other_kind, other_number, other_of = _parts(other)
    return (kind, of) == (other_kind, other_of) and other_number <= number - KEPT_ROUNDS


def _parts(path: Path) -> tuple[str, int, str]:
    _, kind, number, of = path.stem.split("-")
    return kind, int(number), of

"""What may enter the trainer: one message of known fields, each of its form and size, before anything is computed.

The study, the arrays' names and shapes, and their values are judged where they are used: ``fedfm.config.compose``,
``client_app.site``, ``client_app.rounds``.
"""

import re

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from client_app.trainer import messages
from client_app.trainer import trainer_pb2 as pb
from fedfm.errors import WireError
from fedfm.wire import WIRE_VERSION, Request

LARGEST_STATISTICS = 2**20
"""Bytes; two numbers for each of 100,000 columns."""

_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_DIGEST = re.compile(r"([0-9a-f]{64})?")


def message_of(data: bytes) -> pb.Request:
    """Return the message that these bytes are.

    Raises:
        WireError: They are none.
    """
    try:
        return pb.Request.FromString(data)
    except DecodeError as error:
        raise _unfit("the request", "bytes that are no message of this service") from error


def request_of(message: pb.Request, *, with_arrays: bool) -> Request:
    """Return the request that a message carries.

    Args:
        message: As it came.
        with_arrays: Whether the call takes parameters; the others take none, which is refused before any is read.

    Raises:
        WireError: Another version, a field that is not known or too large, or arrays that are none.
    """
    if message.wire_version != WIRE_VERSION:
        raise WireError(
            "SITE-E141",
            "the ClientApp speaks another wire version than this trainer",
            found=str(message.wire_version),
            allowed=str(WIRE_VERSION),
            fix="use the same fedfm version at the coordinator and at the site",
        )
    if len(UnknownFieldSet(message)):
        raise _unfit("the request", "fields that this trainer does not know")
    if not with_arrays and (message.parameters or message.frozen or message.statistics):
        raise _unfit("parameters, frozen and statistics", "arrays, which this call does not take")
    if len(message.statistics) > LARGEST_STATISTICS:
        raise WireError(
            "SITE-E137",
            "a part of the request is too large",
            where="statistics",
            found=f"{len(message.statistics)} bytes",
            allowed=f"at most {LARGEST_STATISTICS}",
            fix="the coordinator must mend it",
        )
    return messages.request_from_proto(message)


def check_fields(request: Request, *, rounds: range) -> None:
    """Refuse names and numbers that cannot be, and that ledger and audit log should not have to keep.

    Args:
        request: What was asked.
        rounds: The rounds that this call can be asked for.

    Raises:
        WireError: The first field that is not of its form.
    """
    if not _RUN_NAME.fullmatch(request.run) or request.round not in rounds:
        raise WireError(
            "SITE-E135",
            "a run or a round that cannot be",
            where="run and round of the request",
            allowed=f"a run of 1 to 80 of A-Z a-z 0-9 . _ -, and a round from {rounds[0]} to {rounds[-1]}",
            fix="the coordinator must mend it",
        )
    for name in ("layout", "ledger_seal", "audit_seal"):
        if not _DIGEST.fullmatch(getattr(request, name)):
            raise _unfit(name, "no fingerprint")


def _unfit(where: str, found: str) -> WireError:
    return WireError(
        "SITE-E138",
        "a request of another form than this trainer takes",
        where=where,
        found=found,
        allowed="what client_app/trainer/trainer.proto of this release lists",
        fix="use the same fedfm version at the coordinator and at the site; if it is, the coordinator must mend it",
    )

"""The calls of ``trainer.proto``: who answers, and the messages that its answers leave in."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from google.protobuf.message import Message as Proto

from client_app.trainer import messages
from client_app.trainer import trainer_pb2 as pb
from client_app.trainer.incidents import kept_back
from client_app.trainer.outgoing import Reply
from client_app.trainer.warm import Trainer
from fedfm.wire import Head, Request


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        answer: The message that leaves; holds ``part`` or a refusal.
        part: Its field for a reply.
        ask: Lets the trainer answer.
        pack: Reply to its message.
        unpack: Message to the reply that its receiver reads.
        with_arrays: Whether requests carry parameters.
    """

    answer: Callable[..., Proto]
    part: str
    ask: Callable[[Trainer, Request], Reply]
    pack: Callable[[Any], Proto]
    unpack: Callable[[Any], Reply]
    with_arrays: bool


CALLS: Mapping[str, Call] = {
    "Describe": Call(
        pb.DescribeAnswer,
        "description",
        Trainer.describe,
        messages.description_to_proto,
        messages.description_from_proto,
        with_arrays=False,
    ),
    "Summarise": Call(
        pb.SummariseAnswer,
        "reply",
        Trainer.summarise,
        messages.summarise_reply_to_proto,
        messages.summarise_reply_from_proto,
        with_arrays=False,
    ),
    "Train": Call(
        pb.TrainAnswer,
        "reply",
        Trainer.train,
        messages.train_reply_to_proto,
        messages.train_reply_from_proto,
        with_arrays=True,
    ),
    "Evaluate": Call(
        pb.EvaluateAnswer,
        "reply",
        Trainer.evaluate,
        messages.evaluate_reply_to_proto,
        messages.evaluate_reply_from_proto,
        with_arrays=True,
    ),
}
"""Name to call; ``Status`` is none of them, for it says nothing that a request could change."""


def packed(call: Call, reply: Reply, head: Head) -> bytes:
    """Return the bytes of the answer that carries a reply, and the head of the audit log as it is before them.

    Raises:
        FedFMError: SITE-E136, where a receiver would read anything but this reply out of them.
    """
    spent = replace(reply.privacy, audit_entries=head.entries, audit_seal=head.seal)
    stated = replace(reply, privacy=spent)
    data = call.answer(**{call.part: call.pack(stated)}).SerializeToString(deterministic=True)
    told = call.answer.FromString(data)  # type: ignore[attr-defined] # of a class of messages
    heard = call.unpack(getattr(told, call.part))
    again = call.answer(**{call.part: call.pack(heard)}).SerializeToString(deterministic=True)
    if _plain(heard) != _plain(stated) or again != data:
        raise kept_back("message", told)
    return data


def _plain(value: Any) -> Any:  # noqa: ANN401 - an answer or a part of it
    """Return what can be compared with ``==``; arrays by type, shape and bytes."""
    if dataclasses.is_dataclass(value):
        return {part.name: _plain(getattr(value, part.name)) for part in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.dtype.name, value.shape, value.tobytes()
    return value

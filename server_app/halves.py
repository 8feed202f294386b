"""Answers to two questions in one message, taken apart as they arrive."""

from collections.abc import Callable, Iterable, Iterator

from flwr.app import Error, Message, MessageType, RecordDict

from fedfm.errors import FedFMError
from fedfm.wire import REFUSED
from fedfm.wire_records import both_from_records
from server_app.refusals import refusal_of
from server_app.requests import BOTH

_NAMES = {MessageType.TRAIN: "training", MessageType.EVALUATE: "evaluation"}


def training_halves(messages: Iterable[Message], hear: Callable[[Message], object]) -> Iterator[Message]:
    """Yield what answers a question of training, as it arrives.

    Args:
        messages: Answers to questions of one kind or of both, or Flower's error replies.
        hear: Called with what answers an evaluation; of one message before its other half is yielded, as the site's
            ledger has it.
    """
    for message in messages:
        kind = message.metadata.message_type
        if kind == MessageType.EVALUATE:
            hear(message)
        elif kind != BOTH:
            yield message
        else:
            hear(_half(message, MessageType.EVALUATE))
            yield _half(message, MessageType.TRAIN)


def _half(message: Message, kind: str) -> Message:
    if message.has_error():
        return message
    try:
        part = both_from_records(message.content).get(_NAMES[kind], RecordDict())
    except FedFMError as problem:
        part = " ".join(refusal_of(problem))
    if isinstance(part, str):
        return Message(error=Error(REFUSED, part), metadata=message.metadata)  # type: ignore[call-overload, no-any-return]
    return Message(content=part, metadata=message.metadata)  # type: ignore[call-overload, no-any-return]

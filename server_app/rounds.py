"""One exchange of messages over Flower's Grid: ask, poll quickly, stop at a deadline.

Flower's own ``send_and_receive`` polls every 3 seconds and drops late answers without a word.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Exchange:
    """What came back.

    Attributes:
        replies: Answers, content or error, in order of arrival.
        missing: Node ids that did not answer before the deadline.
        seconds: Wall time of the exchange.
    """

    replies: tuple[Message, ...]
    missing: tuple[int, ...]
    seconds: float


def exchange(grid: Grid, messages: Iterable[Message], *, deadline_seconds: float) -> Exchange:
    """Send all messages and collect their answers until the last one or the deadline.

    Args:
        grid: Flower's Grid.
        messages: One for each node.
        deadline_seconds: Above 0; each message expires with it, so that a site that is down at that time is not
            asked for an old round when it returns.
    """
    start = time.monotonic()
    asked = list(messages)
    pending = _pushed(grid, asked)
    unsent = {message.metadata.dst_node_id for message in asked} - set(pending.values())
    replies: list[Message] = []
    while pending:
        for reply in grid.pull_messages(list(pending)):
            if pending.pop(reply.metadata.reply_to_message_id, None) is not None:
                replies.append(reply)
        if not pending or time.monotonic() - start > deadline_seconds:
            break
        time.sleep(POLL_SECONDS)
    missing = tuple(sorted({*pending.values(), *unsent}))
    return Exchange(tuple(replies), missing, time.monotonic() - start)


def _pushed(grid: Grid, messages: list[Message]) -> dict[str, int]:
    """Return message id to node id of what Flower accepted; it answers None for the rest."""
    ids = grid.push_messages(messages) if messages else ()
    return {
        message_id: message.metadata.dst_node_id
        for message_id, message in zip(ids, messages, strict=False)
        if message_id
    }

"""One exchange of messages over Flower's Grid: ask, poll quickly, stop at a deadline.

Flower's own ``send_and_receive`` polls every 3 seconds and drops late answers without a word.
"""

import time
from collections.abc import Iterable, Iterator

from flwr.app import Error, Message
from flwr.serverapp import Grid

POLL_SECONDS = 0.2

_NO_ANSWER = 1001
"""Number of our own error reply, beside those that Flower and the ClientApp use."""


def exchange(grid: Grid, messages: Iterable[Message], *, deadline_seconds: float) -> Iterator[Message]:
    """Send all messages and yield one answer for each, in order of arrival.

    A node that did not answer before the deadline is answered for, with an error reply that says so.

    Args:
        grid: Flower's Grid.
        messages: One for each node.
        deadline_seconds: Above 0.
    """
    start = time.monotonic()
    asked = list(messages)
    ids = list(grid.push_messages(asked)) if asked else []
    pending = {message_id: message for message_id, message in zip(ids, asked, strict=False) if message_id}
    silent = [message for message, message_id in zip(asked, ids, strict=False) if not message_id] + asked[len(ids) :]
    while pending:
        for reply in grid.pull_messages(list(pending)):
            question = pending.pop(reply.metadata.reply_to_message_id, None)
            if question is not None:  # an error may be the SuperLink's own, and then bears its number, not the site's
                yield Message(reply.error, reply_to=question) if reply.has_error() else reply
        if not pending or time.monotonic() - start > deadline_seconds:
            break
        time.sleep(POLL_SECONDS)
    late = f"ROUND-E002 no answer within {deadline_seconds / 60:.3g} minutes"
    yield from (Message(Error(_NO_ANSWER, late), reply_to=message) for message in pending.values())
    lost = "ROUND-E004 Flower did not take the request; the message may be too large"
    yield from (Message(Error(_NO_ANSWER, lost), reply_to=message) for message in silent)

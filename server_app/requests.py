"""One request of a round for each site."""

from collections.abc import Iterable

from flwr.app import Message

from fedfm.wire import Request
from fedfm.wire_records import request_to_records, with_heads
from server_app.ledgers import Ledgers
from server_app.roster import Member


def requests(
    asked: Request, members: Iterable[Member], ledgers: Ledgers, *, message_type: str, minutes: float
) -> list[Message]:
    """Return the messages that ask every member the same, each with what is remembered of its ledger and audit log.

    Args:
        asked: The request; arrays are shared between the messages, not copied.
        members: Who is asked.
        ledgers: What is remembered of the sites' ledgers and audit logs.
        message_type: ``train`` or ``evaluate``.
        minutes: How long a round waits; a request must not outlive it by much.
    """
    content, lifetime = request_to_records(asked), 60 * minutes + 60
    return [
        Message(
            with_heads(content, ledgers.of(member.site)),
            member.node_id,
            message_type,
            ttl=lifetime,
            group_id=str(asked.round),
        )
        for member in members
    ]

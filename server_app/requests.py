"""One request of a round for each site."""

from collections.abc import Collection
from dataclasses import replace

from flwr.app import Message, MessageType

from fedfm.wire import Request
from fedfm.wire_records import request_to_records, with_heads
from server_app.roster import Roster

BOTH = "train.evaluated"
"""Message type of a question that asks to evaluate the parameters, and then to train from them."""


def requests(asked: Request, sites: Collection[str], roster: Roster, message_type: str) -> list[Message]:
    """Return the messages that ask these sites the same, each with what is remembered of its ledger and audit log.

    Args:
        asked: The request; arrays are shared between the messages, not copied.
        sites: Who is asked.
        roster: Members, and what is remembered of them.
        message_type: ``train``, ``evaluate``, or ``BOTH``.
    """
    content, members = request_to_records(asked), [roster.members[site] for site in sites]
    return [
        Message(
            with_heads(content, roster.ledgers.of(member.site)),
            member.node_id,
            message_type,
            ttl=roster.lifetime,
            group_id=str(asked.round),
        )
        for member in members
    ]


def training_requests(
    asked: Request, sites: Collection[str], roster: Roster, *, with_evaluation: bool
) -> list[Message]:
    """Return the messages that ask these sites to train.

    Args:
        asked: The request.
        sites: Who is asked to train.
        roster: As ``requests`` takes it.
        with_evaluation: Ask them in the same message, and all others in one of their own, to evaluate the parameters
            as the model of the round before.
    """
    if not with_evaluation:
        return requests(asked, sites, roster, MessageType.TRAIN)
    before, others = asked.round - 1, [site for site in roster.members if site not in sites]
    both = requests(replace(asked, evaluates=before), sites, roster, BOTH)
    return [*both, *requests(replace(asked, round=before), others, roster, MessageType.EVALUATE)]

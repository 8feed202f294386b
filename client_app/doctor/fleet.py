"""What a SuperLink can be asked over its Fleet API with a node key, without a SuperNode coming online by it.

Flower checks a call in this order: the signature over a time stamp, the time stamp itself (not 5 s ahead of the
SuperLink's clock, not 305 s behind), the key. So a call whose stamp is shifted by purpose tells a wrong clock from an
unknown key, and a call that cannot succeed tells both without changing anything:

* ``PullMessages`` for node 0, which no node is: "Invalid timestamp", or "Invalid node ID" once the stamp is accepted;
* ``ActivateNode`` with a heartbeat interval of 0, which is refused only after the key was found;
* ``RegisterNode`` with a key that is registered, which is refused in one way where keys are admitted by the
  coordinator alone, and in another where any key registers itself.

``is_online`` alone activates the node, if none is, and deactivates it at once.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import grpc
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.constant import HEARTBEAT_MIN_INTERVAL, PUBLIC_KEY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    RegisterNodeFleetRequest,
)
from flwr.proto.fleet_pb2_grpc import FleetStub
from flwr.proto.node_pb2 import Node
from flwr.supercore.error import ApiErrorCode

from client_app.doctor.reaching import read_address
from fedfm.errors import EngineError

TIMEOUT = 10.0
"""Seconds to wait for an answer."""

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True)
class Outcome:
    """How a call ended.

    Attributes:
        status: As gRPC says it.
        details: Its text.
        code: Flower's own number for the error; 0 where there is none.
        node: Of an activation that succeeded.
    """

    status: grpc.StatusCode
    details: str = ""
    code: int = 0
    node: int = 0


@dataclass(frozen=True)
class Fleet:
    """A SuperLink's Fleet API, and the node key that calls are signed with.

    Attributes:
        stub: Flower's calls.
        key: The hospital's private node key.
        now: This machine's clock.
    """

    stub: FleetStub
    key: ec.EllipticCurvePrivateKey
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def takes_stamps(self, shifts: Sequence[float]) -> list[bool]:
        """Return whether a stamp that is shifted by each number of seconds is accepted; asked all at once."""
        asked = [self._pull(self._signed(shift)) for shift in shifts]
        return [_outcome(partial(each.result, TIMEOUT)).details != "Invalid timestamp" for each in asked]

    def is_registered(self, shift: float) -> bool:
        """Whether the coordinator has admitted the key; ``shift`` is of a stamp that it accepts."""
        request = ActivateNodeRequest(public_key=self._public, heartbeat_interval=0)
        found = self._activated(request, shift)
        if found.code == ApiErrorCode.FLEET_INVALID_HEARTBEAT_INTERVAL:
            return True
        if found.code == ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED:
            return False
        raise unexpected(found)

    def admits_anybody(self, shift: float) -> bool:
        """Whether a key that nobody admitted may register itself; this key is registered, so that it does not."""
        request = RegisterNodeFleetRequest(public_key=self._public)
        found = _outcome(lambda: self.stub.RegisterNode(request, timeout=TIMEOUT, metadata=self._signed(shift)))
        if found.code == ApiErrorCode.FLEET_SUPERNODE_REGISTRATION_DISABLED:
            return False
        if found.code == ApiErrorCode.PUBLIC_KEY_ALREADY_IN_USE:
            return True
        raise unexpected(found)

    def is_online(self, shift: float) -> bool:
        """Whether a SuperNode with this key, which is registered, is connected, or was a minute ago.

        Guarantees:
            A node that is online is not touched. One that is not is so for the moment between two calls, and for 20 s
            where the second of them is lost; no message is taken for it.
        """
        request = ActivateNodeRequest(public_key=self._public, heartbeat_interval=HEARTBEAT_MIN_INTERVAL)
        found = self._activated(request, shift)
        if found.code == ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED:
            return True
        if found.status is not grpc.StatusCode.OK:
            raise unexpected(found)
        ended = DeactivateNodeRequest(node_id=found.node)
        self.stub.DeactivateNode(ended, timeout=TIMEOUT, metadata=self._signed(shift))
        return False

    @property
    def _public(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def _activated(self, request: ActivateNodeRequest, shift: float) -> Outcome:
        return _outcome(lambda: self.stub.ActivateNode(request, timeout=TIMEOUT, metadata=self._signed(shift)))

    def _pull(self, metadata: Metadata) -> "grpc.Future[PullMessagesResponse]":
        request = PullMessagesRequest(node=Node(node_id=0))
        return self.stub.PullMessages.future(request, timeout=TIMEOUT, metadata=metadata)

    def _signed(self, shift: float) -> Metadata:
        stamp = (self.now() + timedelta(seconds=shift)).isoformat()
        signature = self.key.sign(stamp.encode("ascii"), ec.ECDSA(hashes.SHA256()))
        return (PUBLIC_KEY_HEADER, self._public), (TIMESTAMP_HEADER, stamp), (SIGNATURE_HEADER, signature)


@contextmanager
def fleet_at(address: str, authority: bytes, key: ec.EllipticCurvePrivateKey, *, host: str = "") -> Iterator[Fleet]:
    """Give the Fleet API at ``host:port``, which a certificate of ``authority`` (PEM) vouches for.

    Args:
        address: Where it is reached; of a tunnel's near end, no proxy is between.
        authority: The coordinator's authority.
        key: The hospital's.
        host: That the certificate must be for; the one of ``address`` where empty.

    Raises:
        EngineError: No connection comes about; ``network`` says why.
    """
    near = host and host != read_address(address).host
    options = [("grpc.ssl_target_name_override", host), ("grpc.enable_http_proxy", 0)] if near else []
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(authority), options) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=TIMEOUT)
        except grpc.FutureTimeoutError as error:
            raise EngineError("SITE-E146", "gRPC does not connect", where=address) from error
        yield Fleet(FleetStub(channel), key)


def unexpected(found: Outcome) -> EngineError:
    """Return the error for an answer that Flower 1.39 does not give."""
    return EngineError(
        "SITE-E147",
        "what answers is not the Fleet API of a Flower 1.39 SuperLink",
        found=f"{found.status.name} {found.details}".strip(),
        fix="ask the coordinator for its Flower release, and for the port of its gRPC Fleet API",
    )


def _outcome(call: Callable[[], Any]) -> Outcome:
    """Make a call, and return how it ended.

    Raises:
        EngineError: Nobody answered, or no Fleet API.
    """
    try:
        answer = call()
    except grpc.RpcError as error:
        status, details = error.code(), error.details() or ""
        if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNIMPLEMENTED):
            raise unexpected(Outcome(status, details)) from error
        return Outcome(status, details, _number(details))
    return Outcome(grpc.StatusCode.OK, node=getattr(answer, "node_id", 0))


def _number(details: str) -> int:
    try:
        return int(json.loads(details)["code"])
    except (ValueError, KeyError, TypeError):
        return 0

"""How the ClientApp reaches the trainer: a unix socket, or, on one machine, the same process.

Imports nothing heavy: Flower starts a process for each message, and torch alone would cost
it seconds. The in-process trainer is imported when it is asked for.
"""

import logging
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar

import grpc

from client_app.trainer import messages
from client_app.trainer import trainer_pb2 as pb
from client_app.trainer.trainer_pb2_grpc import TrainerStub
from fedfm.errors import ConfigErrors, EngineError, FedFMError, WireError
from fedfm.offline import go_offline
from fedfm.wire import Description, EvaluateReply, Request, SummariseReply, TrainReply

Answer = TypeVar("Answer", pb.DescribeAnswer, pb.SummariseAnswer, pb.TrainAnswer, pb.EvaluateAnswer)

logger = logging.getLogger(__name__)

_READY_SECONDS = 20.0
_RESTART_SECONDS = 60.0
"""How long a trainer that ended in the middle of an answer is waited for: its container starts it again."""

_SERVICE = pb.DESCRIPTOR.services_by_name["Trainer"].full_name
_WHERE = "trainer-socket of flower-supernode --node-config"
_TOO_MANY = "Concurrent RPC limit"  # gRPC's own words, beside a message that is too large
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class AnyTrainer(Protocol):
    """What the ClientApp needs, whichever way it is reached."""

    def describe(self, request: Request) -> Description:
        """Answer who the site is and that it can take part."""

    def summarise(self, request: Request) -> SummariseReply:
        """Answer with sums over training patients, before round 1."""

    def train(self, request: Request) -> TrainReply:
        """Answer with the update of one round."""

    def evaluate(self, request: Request) -> EvaluateReply:
        """Answer with sums over test and audit patients."""


def connect(node_config: Mapping[str, object]) -> AnyTrainer:
    """Return the trainer that the SuperNode's ``--node-config`` names.

    Args:
        node_config: Holds ``trainer-socket``, the path of a trainer's socket, or ``site-config``,
            the path of a site file for a trainer in this process.

    Raises:
        EngineError: Neither or both are given, or the site file cannot be used.
    """
    path, site_file = node_config.get("trainer-socket"), node_config.get("site-config")
    if bool(path) == bool(site_file):
        raise EngineError(
            "SITE-E152",
            "the SuperNode does not say where its trainer is",
            where="flower-supernode --node-config",
            allowed="one of trainer-socket and site-config",
            fix="""for example --node-config 'trainer-socket="/run/fedfm/trainer.sock"'""",
        )
    return SocketTrainer(str(path)) if path else _in_process(str(site_file))


class MessageTrainer:
    """A trainer that is asked and answers by the messages of ``trainer.proto``, whatever carries them.

    Args:
        carry: Name of a call and the bytes of its request, to the bytes of its answer.
    """

    def __init__(self, carry: Callable[[str, bytes], bytes]) -> None:
        self._carry = carry

    def describe(self, request: Request) -> Description:
        """Answer who the site is and that it can take part."""
        return messages.description_from_proto(self._ask("Describe", pb.DescribeAnswer, request).description)

    def summarise(self, request: Request) -> SummariseReply:
        """Answer with sums over training patients, before round 1."""
        return messages.summarise_reply_from_proto(self._ask("Summarise", pb.SummariseAnswer, request).reply)

    def train(self, request: Request) -> TrainReply:
        """Answer with the update of one round."""
        return messages.train_reply_from_proto(self._ask("Train", pb.TrainAnswer, request).reply)

    def evaluate(self, request: Request) -> EvaluateReply:
        """Answer with sums over test and audit patients."""
        return messages.evaluate_reply_from_proto(self._ask("Evaluate", pb.EvaluateAnswer, request).reply)

    def _ask(self, name: str, kind: type[Answer], request: Request) -> Answer:
        answer = kind.FromString(self._carry(name, messages.request_to_proto(request).SerializeToString()))
        if answer.HasField("refusal"):
            raise FedFMError.received(answer.refusal.code, answer.refusal.text)
        return answer


class SocketTrainer(MessageTrainer):
    """A trainer behind a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__(self._carried)
        self._path = path

    def status(self) -> pb.StatusAnswer:
        """Return the trainer's version and site.

        Raises:
            EngineError: No trainer answers.
        """
        return self._status(_READY_SECONDS)

    def _status(self, seconds: float) -> pb.StatusAnswer:
        with grpc.insecure_channel(f"unix:{self._path}", options=_OPTIONS) as channel:
            try:
                return TrainerStub(channel).Status(pb.StatusRequest(), timeout=seconds, wait_for_ready=True)
            except grpc.RpcError as error:
                raise self._unreachable(error) from error

    def _carried(self, name: str, data: bytes) -> bytes:
        self.status()  # a round may take hours and has no time limit here; reaching the trainer has
        try:
            return self._call(name, data)
        except grpc.RpcError as error:
            if not isinstance(error, grpc.Call) or error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise self._unreachable(error) from error
            logger.warning("the trainer at %s ended while it answered; its successor is asked the same", self._path)
        self._status(_RESTART_SECONDS)
        try:
            return self._call(name, data)  # a question is answered once, however often it is asked
        except grpc.RpcError as error:
            raise self._unreachable(error) from error

    def _call(self, name: str, data: bytes) -> bytes:
        with grpc.insecure_channel(f"unix:{self._path}", options=_OPTIONS) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes]
            call = channel.unary_unary(f"/{_SERVICE}/{name}", request_serializer=None, response_deserializer=None)
            return call(data)

    def _unreachable(self, error: grpc.RpcError) -> FedFMError:
        """Return the error that leaves; the socket's path is the hospital's own, and stays in the log."""
        code, details = (error.code(), str(error.details())) if isinstance(error, grpc.Call) else (None, "")
        logger.warning("the trainer at %s: %s %s", self._path, code, details)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_MANY in details:
            return EngineError(
                "SITE-E139",
                "the trainer has too many requests at once",
                fix="the coordinator asks again when the others are answered",
            )
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return WireError(
                "SITE-E137",
                "the request is larger than the trainer takes",
                where=_WHERE,
                fix="train fewer parameters (adapter=head)",
            )
        return EngineError(
            "SITE-E153",
            "the trainer does not answer",
            where=_WHERE,
            found=code.name if code else "",
            fix="start it: python -m client_app.trainer SITE_FILE --socket PATH; then look at its log",
        )


@cache  # warm between messages, as a trainer is; one for each site of a simulation
def _in_process(site_file: str) -> AnyTrainer:
    """Return a trainer of this process, behind the same boundary as one behind a socket."""
    go_offline()  # what is imported next reads the environment then
    from client_app.trainer.service import Service  # noqa: PLC0415 - heavy, and not needed behind a socket
    from client_app.trainer.warm import Trainer  # noqa: PLC0415
    from fedfm.config.compose import load_site  # noqa: PLC0415

    try:
        site = load_site(Path(site_file))
    except FedFMError as error:
        raise _unusable(site_file, error) from error
    return MessageTrainer(Service(Trainer(site)).answer)


def _unusable(site_file: str, error: FedFMError) -> EngineError:
    """Return the error of a site file that is none: of what it says, only codes leave, for its words are unknown."""
    logger.error("the site file %s cannot be used:\n%s", site_file, error)
    problems = error.problems if isinstance(error, ConfigErrors) else [error]
    return EngineError(
        "SITE-E155",
        "the site file cannot be used, so that no trainer starts",
        where="site-config of flower-supernode --node-config",
        found=", ".join(sorted({problem.code for problem in problems})),
        fix="the hospital looks at its log, or runs: fedfm-site check SITE_FILE",
    )

"""How the ClientApp reaches the trainer: a unix socket, or, on one machine, the same process.

Imports nothing heavy: Flower starts a process for each message, and torch alone would cost
it seconds. The in-process trainer is imported when it is asked for.
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar

import grpc

from client_app.trainer import messages
from client_app.trainer import trainer_pb2 as pb
from client_app.trainer.trainer_pb2_grpc import TrainerStub
from fedfm.errors import EngineError, FedFMError, WireError
from fedfm.offline import go_offline
from fedfm.wire import Description, EvaluateReply, Request, SummariseReply, TrainReply

Answer = TypeVar("Answer", pb.DescribeAnswer, pb.SummariseAnswer, pb.TrainAnswer, pb.EvaluateAnswer)

_READY_SECONDS = 20
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
        EngineError: Neither or both are given.
        ConfigErrors: The site file cannot be read as one.
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


class SocketTrainer:
    """A trainer behind a unix socket."""

    def __init__(self, path: str) -> None:
        self._path = path

    def describe(self, request: Request) -> Description:
        """Answer who the site is and that it can take part."""
        answer = self._ask(lambda stub: stub.Describe, request)
        return messages.description_from_proto(answer.description)

    def summarise(self, request: Request) -> SummariseReply:
        """Answer with sums over training patients, before round 1."""
        return messages.summarise_reply_from_proto(self._ask(lambda stub: stub.Summarise, request).reply)

    def train(self, request: Request) -> TrainReply:
        """Answer with the update of one round."""
        return messages.train_reply_from_proto(self._ask(lambda stub: stub.Train, request).reply)

    def evaluate(self, request: Request) -> EvaluateReply:
        """Answer with sums over test and audit patients."""
        return messages.evaluate_reply_from_proto(self._ask(lambda stub: stub.Evaluate, request).reply)

    def status(self) -> pb.StatusAnswer:
        """Return the trainer's version and site.

        Raises:
            EngineError: No trainer answers.
        """
        with grpc.insecure_channel(f"unix:{self._path}", options=_OPTIONS) as channel:
            try:
                return TrainerStub(channel).Status(pb.StatusRequest(), timeout=_READY_SECONDS, wait_for_ready=True)
            except grpc.RpcError as error:
                raise self._unreachable(error) from error

    def _ask(
        self, call: "Callable[[TrainerStub], grpc.UnaryUnaryMultiCallable[pb.Request, Answer]]", request: Request
    ) -> Answer:
        self.status()  # a round may take hours and has no time limit here; reaching the trainer has
        with grpc.insecure_channel(f"unix:{self._path}", options=_OPTIONS) as channel:
            try:
                answer = call(TrainerStub(channel))(messages.request_to_proto(request))
            except grpc.RpcError as error:
                raise self._unreachable(error) from error
        if answer.HasField("refusal"):
            raise FedFMError.received(answer.refusal.code, answer.refusal.text)
        return answer

    def _unreachable(self, error: grpc.RpcError) -> FedFMError:
        if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return WireError(
                "SITE-E137",
                "the request is larger than the trainer takes",
                where=self._path,
                fix="train fewer parameters (adapter=head)",
            )
        return EngineError(
            "SITE-E153",
            "the trainer does not answer",
            where=self._path,
            found=str(error.code().name) if isinstance(error, grpc.Call) else "",
            fix="start it: python -m client_app.trainer SITE_FILE --socket PATH; then look at its log",
        )


@cache  # warm between messages, as a trainer is; one for each site of a simulation
def _in_process(site_file: str) -> AnyTrainer:
    go_offline()  # what is imported next reads the environment then
    from client_app.trainer.warm import Trainer  # noqa: PLC0415 - heavy, and not needed behind a socket
    from fedfm.config.compose import load_site  # noqa: PLC0415

    return Trainer(load_site(Path(site_file)))

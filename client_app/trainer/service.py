"""The trainer behind gRPC on a unix socket."""

import logging
import os
import socket
from collections.abc import Callable
from concurrent import futures
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import grpc
from google.protobuf.message import Message as Proto

from client_app.audit_log import AuditLog
from client_app.trainer import messages
from client_app.trainer import trainer_pb2 as pb
from client_app.trainer.incidents import as_refusal
from client_app.trainer.own_words import without_own_words
from client_app.trainer.trainer_pb2_grpc import TrainerServicer, add_TrainerServicer_to_server
from client_app.trainer.warm import Trainer
from fedfm.errors import EngineError, FedFMError
from fedfm.wire import WIRE_VERSION, Request

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 512 * 2**20
OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]
_LONGEST_SOCKET_PATH = 100  # Linux allows 107 bytes; gRPC fails on longer ones without saying why

Answer = TypeVar("Answer", bound=Proto)


class Service(TrainerServicer):
    """The calls of ``trainer.proto``; each request and each answer goes to the audit log."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._log = AuditLog(Path(trainer.site.state))

    def Describe(self, request: pb.Request, context: grpc.ServicerContext) -> pb.DescribeAnswer:  # noqa: N802
        """Answer with a description or a refusal."""

        def answer(asked: Request) -> pb.DescribeAnswer:
            return pb.DescribeAnswer(description=messages.description_to_proto(self._trainer.describe(asked)))

        return self._answered("Describe", request, answer, lambda refusal: pb.DescribeAnswer(refusal=refusal))

    def Summarise(self, request: pb.Request, context: grpc.ServicerContext) -> pb.SummariseAnswer:  # noqa: N802
        """Answer with sums over training patients, or a refusal."""

        def answer(asked: Request) -> pb.SummariseAnswer:
            return pb.SummariseAnswer(reply=messages.summarise_reply_to_proto(self._trainer.summarise(asked)))

        return self._answered("Summarise", request, answer, lambda refusal: pb.SummariseAnswer(refusal=refusal))

    def Train(self, request: pb.Request, context: grpc.ServicerContext) -> pb.TrainAnswer:  # noqa: N802
        """Answer with an update or a refusal."""

        def answer(asked: Request) -> pb.TrainAnswer:
            return pb.TrainAnswer(reply=messages.train_reply_to_proto(self._trainer.train(asked)))

        return self._answered("Train", request, answer, lambda refusal: pb.TrainAnswer(refusal=refusal))

    def Evaluate(self, request: pb.Request, context: grpc.ServicerContext) -> pb.EvaluateAnswer:  # noqa: N802
        """Answer with sums or a refusal."""

        def answer(asked: Request) -> pb.EvaluateAnswer:
            return pb.EvaluateAnswer(reply=messages.evaluate_reply_to_proto(self._trainer.evaluate(asked)))

        return self._answered("Evaluate", request, answer, lambda refusal: pb.EvaluateAnswer(refusal=refusal))

    def Status(self, request: pb.StatusRequest, context: grpc.ServicerContext) -> pb.StatusAnswer:  # noqa: N802
        """Answer at once, also while a round is under way."""
        return pb.StatusAnswer(wire_version=WIRE_VERSION, fedfm_version=version("fedfm"), site=self._trainer.site.id)

    def _answered(
        self,
        call: str,
        request: pb.Request,
        answer: Callable[[Request], Answer],
        refused: Callable[[pb.Refusal], Answer],
    ) -> Answer:
        try:
            self._note(self._log.entered, call, request, request)
            result = answer(messages.request_from_proto(request))
        except Exception as error:
            result = self._refused(call, request, error, refused)
        try:
            self._note(self._log.left, f"{call}Answer", result, request)
        except FedFMError as error:  # what cannot be written down does not leave
            result = self._refused(call, request, error, refused)
        return result

    def _refused(
        self, call: str, request: pb.Request, error: Exception, refused: Callable[[pb.Refusal], Answer]
    ) -> Answer:
        refusal = as_refusal(error)
        logger.warning("%s of round %d refused: %s", call, request.round, refusal)
        refusal = without_own_words(refusal, self._trainer.site.data)
        return refused(pb.Refusal(code=refusal.code, text=str(refusal)))

    def _note(self, record: Callable[..., None], kind: str, message: Proto, request: pb.Request) -> None:
        record(kind, message.SerializeToString(), run=request.run[:80], round_=request.round)


def serve(trainer: Trainer, path: Path) -> grpc.Server:
    """Start serving on a unix socket that only its owner and group may use.

    Raises:
        EngineError: The path is too long, in use, or cannot be made.
    """
    _free(path)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=OPTIONS)
    add_TrainerServicer_to_server(Service(trainer), server)
    old_mask = os.umask(0o007)
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as error:
        raise EngineError(
            "SITE-E151", "cannot serve on this socket", where=str(path), fix="choose a folder that this user may write"
        ) from error
    finally:
        os.umask(old_mask)
    server.start()
    return server


def _free(path: Path) -> None:
    if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
        raise EngineError(
            "SITE-E151",
            "the socket's path is too long",
            where=str(path),
            allowed=f"at most {_LONGEST_SOCKET_PATH} bytes",
            fix="choose a shorter folder, for example /run/fedfm",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        if _answers(path):
            raise EngineError(
                "SITE-E151", "another trainer serves on this socket", where=str(path), fix="stop it first"
            )
        path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True

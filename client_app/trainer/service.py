"""The trainer behind gRPC on a unix socket."""

import logging
import os
import socket
import threading
from collections.abc import Callable
from concurrent import futures
from functools import partial
from importlib.metadata import version
from pathlib import Path

import grpc

from client_app.trainer import trainer_pb2 as pb
from client_app.trainer.calls import CALLS, Call, packed
from client_app.trainer.incidents import as_refusal, printable
from client_app.trainer.incoming import message_of, request_of
from client_app.trainer.own_words import without_own_words
from client_app.trainer.warm import Trainer
from fedfm.errors import EngineError, FedFMError, WireError
from fedfm.wire import WIRE_VERSION, Head

logger = logging.getLogger(__name__)

SERVICE = pb.DESCRIPTOR.services_by_name["Trainer"].full_name
MAX_MESSAGE_BYTES = 512 * 2**20
MOST_AT_ONCE = 8  # requests that wait or are answered; each holds its arrays
OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]
_LONGEST_SOCKET_PATH = 100  # Linux allows 107 bytes; gRPC fails on longer ones without saying why


class Service:
    """The calls of ``trainer.proto``, on bytes; what enters and what leaves goes to the audit log as it is."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._log = trainer.log
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)

    def answer(self, name: str, data: bytes) -> bytes:
        """Return the answer to a request, or the refusal; in the audit log before it is returned.

        The answer states the head that the log had before it: the request is in there, the answer is not.

        Guarantees:
            What cannot be written down does not leave, but for the code that says so.
        """
        read = _read(data)
        asked = read if isinstance(read, pb.Request) else pb.Request()  # what cannot be read names no run
        try:
            self._log.entered(name, data, run=asked.run[:80], round_=asked.round)
            answer = self._replied(CALLS[name], read)
        except Exception as error:
            answer = self._refused(name, asked.round, error)
        try:
            self._log.left(f"{name}Answer", answer, run=asked.run[:80], round_=asked.round)
        except Exception as error:
            answer = self._refused(name, asked.round, error)
        return answer

    def status(self) -> bytes:
        """Answer at once, also while a round is under way."""
        told = pb.StatusAnswer(wire_version=WIRE_VERSION, fedfm_version=version("fedfm"), site=self._trainer.site.id)
        return told.SerializeToString()

    def _refused(self, name: str, round_: int, error: Exception) -> bytes:
        # on the text as it is: made printable or cut, it would no longer hold the words as the site file has them
        hidden = without_own_words(error, self._trainer.site.data) if isinstance(error, FedFMError) else error
        refusal = as_refusal(hidden)
        logger.warning(
            "%s of round %d refused: %s", name, round_, printable(str(error)) if hidden is not error else refusal
        )
        told = pb.Refusal(code=refusal.code, text=str(refusal))
        return CALLS[name].answer(refusal=told).SerializeToString(deterministic=True)

    def _replied(self, call: Call, read: pb.Request | WireError) -> bytes:
        if not self._places.acquire(blocking=False):
            raise EngineError(
                "SITE-E139",
                "the trainer has too many requests at once",
                allowed=f"{MOST_AT_ONCE}, of which it answers one after the other",
                fix="the coordinator asks again when the others are answered",
            )
        try:
            if isinstance(read, WireError):
                raise read
            request = request_of(read, with_arrays=call.with_arrays)
            self._log.check_not_older(Head(request.audit_entries, request.audit_seal))
            reply = call.ask(self._trainer, request)
            return packed(call, reply, self._log.head())
        finally:
            self._places.release()


def serve(trainer: Trainer, path: Path) -> grpc.Server:
    """Start serving on a unix socket that only its owner and group may use.

    Raises:
        EngineError: The path is too long, in use, or cannot be made.
    """
    _free(path)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2 * MOST_AT_ONCE), options=OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers(Service(trainer))),))
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


def handlers(service: Service) -> "dict[str, grpc.RpcMethodHandler[bytes, bytes]]":
    """Return what answers each call; bytes in, bytes out, so that gRPC parses and writes nothing by itself."""
    answers = {name: partial(service.answer, name) for name in CALLS} | {"Status": lambda _: service.status()}
    return {name: grpc.unary_unary_rpc_method_handler(_silent(answer)) for name, answer in answers.items()}


def _silent(answer: Callable[[bytes], bytes]) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    """Let no error get to gRPC, which would send its text; nor end a thread, which would leave the caller waiting."""

    def answered(data: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return answer(data)
        except BaseException as error:
            context.abort(grpc.StatusCode.INTERNAL, str(as_refusal(error)))
            raise  # not reached: abort raises, and gRPC sends no other text than that

    return answered


def _read(data: bytes) -> pb.Request | WireError:
    """Return the message, or why it cannot be read: the log notes it before it is refused."""
    try:
        return message_of(data)
    except WireError as error:
        return error


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

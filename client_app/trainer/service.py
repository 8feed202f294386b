"""The trainer behind gRPC on a unix socket."""

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc

from client_app.trainer import trainer_pb2 as pb
from client_app.trainer.calls import CALLS, packed
from client_app.trainer.incidents import as_refusal, printable
from client_app.trainer.incoming import message_of, request_of
from client_app.trainer.own_words import without_own_words
from client_app.trainer.room import Room
from client_app.trainer.warm import Trainer
from fedfm.errors import EngineError, FedFMError, WireError
from fedfm.wire import WIRE_VERSION, Head, Request

logger = logging.getLogger(__name__)

SERVICE = pb.DESCRIPTOR.services_by_name["Trainer"].full_name
MAX_MESSAGE_BYTES = 512 * 2**20
MOST_AT_ONCE = 8  # requests that wait or are answered; all others are refused before they are read
MOST_CALLS = 8 * MOST_AT_ONCE  # beyond, gRPC itself refuses
OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]
_READING_SECONDS = 60.0  # a caller that sends more slowly would keep all others out
_LONGEST_SOCKET_PATH = 100  # Linux allows 107 bytes; gRPC fails on longer ones without saying why


class Service:
    """The calls of ``trainer.proto``, on bytes; what enters and what leaves goes to the audit log as it is.

    Whichever way a request comes, over the socket or from this process, it passes here, and whatever leaves does.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._log = trainer.log
        self._room = Room(MOST_AT_ONCE, MAX_MESSAGE_BYTES)
        self._turn = threading.Lock()

    def answer(self, name: str, data: bytes) -> bytes:
        """Return the answer to a request; as ``take``."""
        return self.take(name, lambda: data)

    def take(self, name: str, read: Callable[[], bytes]) -> bytes:
        """Return the answer to a request, or the refusal; in the audit log before it is returned.

        The answer states the head that the log had before it: the request is in there, the answer is not.

        Args:
            name: Of the call.
            read: Reads the request's bytes; not called where there is no place for it.

        Guarantees:
            What cannot be written down does not leave, but for the code that says so. One request at a time is read or
            parsed, one at a time is answered; those that wait hold at most ``MAX_MESSAGE_BYTES`` together with it.
        """
        if not self._room.enter():
            return self._kept_out(name, b"")
        try:
            with self._room.door:
                data = read()
                size = len(data)
                if not self._room.hold(size):
                    return self._kept_out(name, data)
            try:
                with self._turn:
                    with self._room.door:  # each form of it goes before the next but one is made
                        message = self._entered(name, data)
                        del data
                        run, round_ = _named(message)
                        asked = message if isinstance(message, bytes) else self._asked(name, message)
                        del message
                    answer = asked if isinstance(asked, bytes) else self._replied(name, asked)
                    return self._left(name, answer, run, round_)
            finally:
                self._room.release(size)
        finally:
            self._room.leave()

    def status(self) -> bytes:
        """Answer at once, also while a round is under way."""
        told = pb.StatusAnswer(wire_version=WIRE_VERSION, fedfm_version=version("fedfm"), site=self._trainer.site.id)
        return told.SerializeToString()

    # An error becomes the bytes of a refusal where it is caught: kept, it would keep alive all that it passed through,
    # message and arrays among it.

    def _kept_out(self, name: str, data: bytes) -> bytes:
        """Return the refusal of a request for which there is no place; of one that was not read, ``data`` is empty."""
        try:
            self._log.entered(name, data, run="", round_=0)
            refusal = self._refused(name, 0, self._room.full())
        except Exception as error:
            refusal = self._refused(name, 0, error)
        return self._left(name, refusal, "", 0)

    def _entered(self, name: str, data: bytes) -> pb.Request | bytes:
        """Write down that a request has entered; return its message, or the refusal of one that cannot be read."""
        message: pb.Request | bytes
        try:
            message = message_of(data)
        except WireError as error:
            message = self._refused(name, 0, error)
        run, round_ = _named(message)
        try:
            self._log.entered(name, data, run=run, round_=round_)
        except Exception as error:
            return self._refused(name, round_, error)
        return message

    def _asked(self, name: str, message: pb.Request) -> Request | bytes:
        """Return the request that a message carries, or its refusal."""
        try:
            return request_of(message, with_arrays=CALLS[name].with_arrays)
        except Exception as error:
            return self._refused(name, message.round, error)

    def _replied(self, name: str, request: Request) -> bytes:
        """Return the trainer's answer, or its refusal."""
        try:
            self._log.check_not_older(Head(request.audit_entries, request.audit_seal))
            reply = CALLS[name].ask(self._trainer, request)
            return packed(CALLS[name], reply, self._log.head())
        except Exception as error:
            return self._refused(name, request.round, error)

    def _left(self, name: str, answer: bytes, run: str, round_: int) -> bytes:
        """Write the answer down and return it; where that cannot be, the refusal that says so."""
        try:
            self._log.left(f"{name}Answer", answer, run=run, round_=round_)
        except Exception as error:
            return self._refused(name, round_, error)
        return answer

    def _refused(self, name: str, round_: int, error: Exception) -> bytes:
        # on the text as it is: made printable or cut, it would no longer hold the words as the site file has them
        hidden = without_own_words(error, self._trainer.site) if isinstance(error, FedFMError) else error
        refusal = as_refusal(hidden)
        logger.warning(
            "%s of round %d refused: %s", name, round_, printable(str(error)) if hidden is not error else refusal
        )
        told = pb.Refusal(code=refusal.code, text=str(refusal))
        return CALLS[name].answer(refusal=told).SerializeToString(deterministic=True)


def serve(trainer: Trainer, path: Path) -> grpc.Server:
    """Start serving on a unix socket that only its owner and group may use.

    Raises:
        EngineError: The path is too long, in use, or cannot be made.
    """
    _free(path)
    pool = futures.ThreadPoolExecutor(max_workers=2 * MOST_AT_ONCE)  # the others hear a refusal, or a status
    server = grpc.server(pool, options=OPTIONS, maximum_concurrent_rpcs=MOST_CALLS)
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
    """Return what answers each call; bytes in, bytes out, so that gRPC parses and writes nothing by itself.

    To gRPC a request is a stream of one message: on the wire that is the same, and a message of a stream is read
    when it is asked for, not before.
    """
    calls = {name: grpc.stream_unary_rpc_method_handler(_silent(partial(_taken, service, name))) for name in CALLS}
    return calls | {"Status": grpc.unary_unary_rpc_method_handler(_silent(lambda _, __: service.status()))}


def _taken(service: Service, name: str, sent: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    return service.take(name, lambda: _message(sent, context))


def _message(sent: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    """Return the message that a caller sends, who has not for ever."""
    too_late = threading.Timer(_READING_SECONDS, context.cancel)
    too_late.daemon = True
    too_late.start()
    try:
        data = next(sent, None)
    finally:
        too_late.cancel()
    if data is None and not context.is_active():
        raise ConnectionAbortedError  # larger than gRPC takes, or too late: nobody hears an answer
    return data or b""


def _silent(answer: Callable[[Any, grpc.ServicerContext], bytes]) -> Callable[[Any, grpc.ServicerContext], bytes]:
    """Let no error get to gRPC, which would send its text; nor end a thread, which would leave the caller waiting."""

    def answered(sent: Any, context: grpc.ServicerContext) -> bytes:  # noqa: ANN401 - a message, or a stream of one
        try:
            return answer(sent, context)
        except BaseException as error:
            context.abort(grpc.StatusCode.INTERNAL, str(as_refusal(error)))
            raise  # not reached: abort raises, and gRPC sends no other text than that

    return answered


def _named(message: pb.Request | bytes) -> tuple[str, int]:
    """Return the run and the round that the audit log notes; what cannot be read names none."""
    return (message.run[:80], message.round) if isinstance(message, pb.Request) else ("", 0)


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

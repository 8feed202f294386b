"""A TCP relay that keeps every byte that passes."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class Relay:
    """Listens on a free port of loopback and passes each connection on to ``target`` (``host:port``).

    Attributes:
        target: Where connections go; set it before the first one comes.
        to_server: For each connection, the bytes that the client sent.
        to_client: For each connection, the bytes that the server sent.
    """

    def __init__(self) -> None:
        self.target = ""
        self.to_server: list[bytearray] = []
        self.to_client: list[bytearray] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []

    @property
    def address(self) -> str:
        """Where clients connect."""
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> Self:
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _close(self._listener)
        self._accepting.join(timeout=5)
        for each in self._open:
            _close(each)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            host, _, port = self.target.rpartition(":")
            try:
                server = socket.create_connection((host, int(port)))
            except OSError:  # the coordinator is not up yet, or no more
                client.close()
                continue
            self._open += [client, server]
            self.to_server.append(bytearray())
            self.to_client.append(bytearray())
            for source, sink, kept in ((client, server, self.to_server[-1]), (server, client, self.to_client[-1])):
                threading.Thread(target=_pass_on, args=(source, sink, kept), daemon=True).start()


def _close(each: socket.socket) -> None:
    with suppress(OSError):  # where the other side closed it first
        each.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits on it
    each.close()


def _pass_on(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    try:
        while data := source.recv(65536):
            kept += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return  # one side has gone; the other notices by itself

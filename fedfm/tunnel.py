"""What both ends of the tunnel do: TLS 1.3 in which each shows a certificate that the other has pinned.

The tunnel carries a hospital's own TLS connection to the SuperLink, so that neither end can read what passes. Any other
program for TLS can stand in for an end (docs/how-to/mutual-tls.md).
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fedfm.tunnel_certificates import CERTIFICATE, KEY, as_pem

HANDSHAKE = 10.0
"""Seconds within which TLS must come about."""
_LINGER = 2.0
_CHUNK = 65536

Pinned = Collection[x509.Certificate]


class Stream(Protocol):
    """One connection, both ways."""

    async def read(self) -> bytes:
        """Return what has come, at least a byte; none at the end."""

    async def write(self, data: bytes) -> None:
        """Send all of it."""

    def close(self) -> None:
        """End it."""


@dataclass(frozen=True)
class Plain:
    """A connection as it is."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read(self) -> bytes:
        """Return what has come, at least a byte; none at the end."""
        return await self.reader.read(_CHUNK)

    async def write(self, data: bytes) -> None:
        """Send all of it."""
        self.writer.write(data)
        await self.writer.drain()

    def close(self) -> None:
        """End it."""
        self.writer.close()


@dataclass(frozen=True)
class Tls:
    """TLS over a connection.

    Not asyncio's own, which sends no alert when it refuses a certificate: the other end could not say why it failed.
    """

    under: Plain
    session: ssl.SSLObject
    received: ssl.MemoryBIO
    to_send: ssl.MemoryBIO = field(repr=False)

    @property
    def shown(self) -> bytes:
        """The certificate that the other side showed, as DER."""
        return self.session.getpeercert(binary_form=True) or b""

    async def read(self) -> bytes:
        """Return what has come, at least a byte; none at the end.

        Raises:
            ssl.SSLError: The other side refuses, or what came is no TLS.
        """
        while True:
            try:
                return self.session.read(_CHUNK)
            except ssl.SSLWantReadError:
                if not await self._fed():
                    return b""
            except ssl.SSLZeroReturnError:
                return b""

    async def write(self, data: bytes) -> None:
        """Send all of it."""
        while data:
            data = data[self.session.write(data) :]
        await self._flushed()

    def close(self) -> None:
        """End it, with a last word."""
        with suppress(ssl.SSLError):
            self.session.unwrap()
        with suppress(OSError):
            self.under.writer.write(self.to_send.read())
        self.under.close()

    async def _agreed(self) -> None:
        while True:
            try:
                self.session.do_handshake()
            except ssl.SSLWantReadError:
                if not await self._fed():
                    raise ConnectionResetError("ended before TLS came about") from None
            else:
                await self._flushed()
                return

    async def _flushed(self) -> None:
        if self.to_send.pending:
            await self.under.write(self.to_send.read())

    async def _fed(self) -> bool:
        await self._flushed()
        data = await self.under.read()
        self.received.write(data)
        return bool(data)

    async def _refused(self) -> None:
        """Send the alert, and hear the other side out: a connection that is reset may lose what was sent last."""
        await self._flushed()
        self.under.writer.write_eof()
        while await self.under.read():
            pass


async def secured(under: Plain, context: ssl.SSLContext, *, host: str | None = None) -> Tls:
    """Return TLS over a connection: of a server, or of a client that has asked for ``host``.

    Raises:
        OSError: It did not come about; for a certificate that is refused, ``ssl.SSLError``. The connection is ended.
    """
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(received, to_send, server_side=host is None, server_hostname=host)
    made = Tls(under, session, received, to_send)
    try:
        await asyncio.wait_for(made._agreed(), HANDSHAKE)
    except OSError as error:
        if isinstance(error, ssl.SSLError):
            with suppress(OSError):
                await asyncio.wait_for(made._refused(), _LINGER)
        under.close()
        raise
    return made


def server_context(folder: Path, pinned: Pinned) -> ssl.SSLContext:
    """Return how the coordinator's end takes connections: from holders of a pinned certificate alone.

    Raises:
        OSError: The key or the certificate in ``folder`` cannot be used.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, folder, pinned)
    context.num_tickets = 0  # a session that goes on would pass by the list of who is admitted
    return context


def client_context(folder: Path, pinned: Pinned) -> ssl.SSLContext:
    """Return how a hospital's end connects: to the holder of a pinned certificate alone.

    Raises:
        OSError: The key or the certificate in ``folder`` cannot be used.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, folder, pinned)


def is_pinned(shown: bytes, pinned: Pinned) -> bool:
    """Whether a certificate (DER) is itself one of those pinned, and not one that one of them has signed."""
    return any(shown == each.public_bytes(Encoding.DER) for each in pinned)


async def pass_on(one: Stream, other: Stream) -> None:
    """Pass bytes both ways until a side ends or fails; then end both.

    Raises:
        OSError: A side failed; for a certificate that is refused, an ``ssl.SSLError``.
    """
    ways = [asyncio.ensure_future(_one_way(one, other)), asyncio.ensure_future(_one_way(other, one))]
    try:
        ended, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for each in ended:
            each.result()
    finally:
        for each in ways:
            each.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        one.close()
        other.close()


@contextmanager
def in_background(work: Callable[[socket.socket], Coroutine[Any, Any, None]]) -> Iterator[int]:
    """Let ``work`` serve a port of loopback in a thread, until the block ends; gives the port."""
    loop = asyncio.new_event_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = loop.create_task(work(listener))
        thread = Thread(target=_until_cancelled, args=(loop, serving), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            loop.call_soon_threadsafe(serving.cancel)
            thread.join(timeout=HANDSHAKE)


async def serve(listener: socket.socket, answer: Callable[[Plain], Coroutine[Any, Any, None]]) -> None:
    """Let ``answer`` have every connection to ``listener``, each in a task of its own, until cancelled."""
    live: set[asyncio.Task[None]] = set()

    def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _notice_the_dead(writer.get_extra_info("socket"))
        task = asyncio.ensure_future(answer(Plain(reader, writer)))
        live.add(task)
        task.add_done_callback(live.discard)
        task.add_done_callback(lambda _: writer.close())

    server = await asyncio.start_server(one, sock=listener)
    try:
        await asyncio.Future()
    finally:
        server.close()
        for each in live:
            each.cancel()
        await asyncio.gather(*live, return_exceptions=True)


def _context(protocol: int, folder: Path, pinned: Pinned) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a pinned certificate is the other end, whatever its address
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it is trusted itself, its issuer is not
    context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    if pinned:
        context.load_verify_locations(cadata=as_pem(pinned).decode("ascii"))
    return context


def _notice_the_dead(connection: socket.socket) -> None:
    """Ask, after a minute of silence, whether the other side is still there: it may have lost its power."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)


async def _one_way(source: Stream, sink: Stream) -> None:
    while data := await source.read():
        await sink.write(data)


def _until_cancelled(loop: asyncio.AbstractEventLoop, serving: "asyncio.Task[None]") -> None:
    try:
        loop.run_until_complete(asyncio.wait([serving]))
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()

"""Records every frame that passes a bridge of the Docker engine; needs root, like the engine."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.docker.engine import Federation, command

_EVERY_PROTOCOL = 0x0003
_PACKET, _ADD_MEMBERSHIP, _PROMISCUOUS = 263, 1, 1  # of Linux's if_packet.h


@contextmanager
def recorded(federation: Federation, networks: tuple[str, ...]) -> Iterator[dict[str, bytearray]]:
    """Record what passes these networks of the federation until the block ends."""
    passed: dict[str, bytearray] = {name: bytearray() for name in networks}
    taps = []
    for name in networks:
        network = f"{federation.project}_{name}"
        bridge = f"br-{command('docker', 'network', 'inspect', '-f', '{{.Id}}', network).stdout[:12]}"
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY_PROTOCOL))
        tap.bind((bridge, _EVERY_PROTOCOL))
        everything = struct.pack("IHH8s", socket.if_nametoindex(bridge), _PROMISCUOUS, 0, b"")
        tap.setsockopt(_PACKET, _ADD_MEMBERSHIP, everything)  # also what goes from one container to another
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        tap.settimeout(0.5)
        taps.append(tap)
    over = threading.Event()

    def read(tap: socket.socket, into: bytearray) -> None:
        while not over.is_set():
            try:
                into += tap.recv(1 << 17)
            except TimeoutError:
                continue

    readers = [threading.Thread(target=read, args=pair) for pair in zip(taps, passed.values(), strict=True)]
    for reader in readers:
        reader.start()
    try:
        yield passed
    finally:
        over.set()
        for reader, tap in zip(readers, taps, strict=True):
            reader.join()
            tap.close()

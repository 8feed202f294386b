"""A way to the coordinator as gRPC would take it: its address, a proxy of the environment, a TCP connection.

What is in the way is an error with a code, each cause with its own.
"""

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from fedfm.errors import ConfigError, EngineError

TIMEOUT = 10.0
"""Seconds to wait for a connection or an answer."""

PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""What gRPC reads, the first one that is set; only in small letters."""

_ANSWER = 4096


@dataclass(frozen=True)
class Address:
    """Where something listens, or a proxy."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(text: str) -> Address:
    """Read ``host:port``.

    Raises:
        ConfigError: A scheme, no port, or no host.
    """
    host, colon, port = text.rpartition(":")
    is_bare = ":" in host and not host.startswith("[")  # an IPv6 address of which nobody knows where it ends
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536) or "/" in host or is_bare:
        raise ConfigError(
            "SITE-E126",
            "the coordinator's address is not of the form host:port",
            where="network.coordinator",
            found=text,
            allowed="host:port, without https://, for example fl.example.org:9092",
            fix="write the host and the port of its Fleet API, as the coordinator told you",
        )
    return Address(host, int(port))


def proxy_for(address: Address, environment: Mapping[str, str]) -> Address | None:
    """Return the proxy that gRPC would take to ``address``, or None for a direct way. Its password is left out."""
    name = next((name for name in PROXY_VARIABLES if environment.get(name)), "")
    if not name or _is_direct(address.host, environment.get("no_grpc_proxy") or environment.get("no_proxy") or ""):
        return None
    parts = urlsplit(environment[name] if "://" in environment[name] else f"http://{environment[name]}")
    return Address(parts.hostname or "", parts.port or 80)


def connected(address: Address, proxy: Address | None = None) -> socket.socket:
    """Return a TCP connection to ``address``, through ``proxy`` where there is one.

    Raises:
        EngineError: The name is unknown, nobody listens, no answer comes, or the proxy refuses.
    """
    if proxy is None:
        return _direct(address)
    connection = _direct(proxy)
    try:
        connection.sendall(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode("ascii"))
        answer = connection.recv(_ANSWER).split(b"\r\n")[0].decode("ascii", "replace")
    except OSError as error:
        connection.close()
        raise _proxy_refuses(address, proxy, error.strerror or type(error).__name__) from error
    if answer.split(" ")[1:2] != ["200"]:
        connection.close()
        raise _proxy_refuses(address, proxy, answer or "the connection was closed")
    return connection


def _direct(address: Address) -> socket.socket:
    try:
        return socket.create_connection((address.host, address.port), timeout=TIMEOUT)
    except socket.gaierror as error:
        raise EngineError(
            "SITE-E144",
            "the name server knows no such host",
            where=str(address),
            found=error.strerror or "",
            fix="look for a typing error in network.coordinator; else ask your IT for the name server of this network",
        ) from error
    except ConnectionRefusedError as error:
        raise EngineError(
            "SITE-E145",
            "the host answers, and nothing listens on that port",
            where=str(address),
            fix="compare the port with the coordinator's; ask whether its SuperLink runs; a firewall may refuse too",
        ) from error
    except OSError as error:
        silent = isinstance(error, TimeoutError)
        raise EngineError(
            "SITE-E146",
            f"no answer within {TIMEOUT:.0f} s" if silent else "there is no way to the host",
            where=str(address),
            found="" if silent else error.strerror or type(error).__name__,
            fix="ask your IT to let this machine out to that host and port: a firewall drops it, or a route lacks",
        ) from error


def _proxy_refuses(address: Address, proxy: Address, found: str) -> EngineError:
    return EngineError(
        "SITE-E128",
        "the proxy does not let the connection through",
        where=f"{address} by way of {proxy}",
        found=found,
        fix="ask your IT to let CONNECT to that host and port pass; where there is a direct way, name it in no_proxy",
    )


def _is_direct(host: str, exempt: str) -> bool:
    """Tell whether gRPC takes no proxy to a host: a name that ends so, or an address of a network, is exempt."""
    return any(_exempts(each.strip(), host) for each in exempt.split(",") if each.strip())


def _exempts(entry: str, host: str) -> bool:
    if _is_ip(host) and "/" in entry:
        try:
            return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    return host.lower().endswith(entry.lower())


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

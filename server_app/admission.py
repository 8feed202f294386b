"""Who may take part: the sites whose node keys the SuperLink knows. Over its Control API."""

import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, UnregisterNodeRequest
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error.base import FlowerError
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from fedfm.errors import ConfigError, EngineError, FedFMError
from fedfm.node_keys import fingerprint

STATES = {"online": "online", "offline": "offline", "registered": "never seen", "unregistered": "revoked"}
"""What Flower says of a node, and what a person reads."""

_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_TLS = {
    "certificate has expired": "the SuperLink's certificate has expired",
    "not yet valid": "the SuperLink's certificate is not valid yet: compare the clocks",
    "not valid for": "the SuperLink's certificate is for another host name",
    "mismatch": "the SuperLink's certificate is for another host name",
    "unable to get local issuer": "the SuperLink's certificate was signed by another authority",
    "self-signed certificate": "the SuperLink's certificate was signed by another authority",
    "certificate signature failure": "the SuperLink's certificate was signed by another authority",
}


@dataclass(frozen=True)
class Admitted:
    """A site that the coordinator has let in, or has put out again.

    Attributes:
        site: Its id.
        state: ``online``, ``offline``, ``never seen`` or ``revoked``.
        seen: When it was last known to be there, in UTC; None where it never was.
        since: When it was let in, in UTC.
        fingerprint: Of its node key.
        node: Flower's number of it.
    """

    site: str
    state: str
    seen: datetime | None
    since: datetime
    fingerprint: str
    node: int


def client(address: str, authority: Path) -> ControlHttpClient:
    """Return a client of the Control API at ``host:port`` whose certificate ``authority`` signed.

    Raises:
        ConfigError: The authority's file cannot be read as a certificate (STUDY-E095).
    """
    try:
        return ControlHttpClient.from_server_address(
            server_address=address,
            insecure=False,
            root_certificates=authority.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise ConfigError(
            "STUDY-E095",
            "no certificate of an authority",
            where=str(authority),
            found="no such file" if isinstance(error, FileNotFoundError) else "no PEM certificate that can be read",
            fix="name the coordinator's ca.crt with --authority",
        ) from error


@contextmanager
def connected(address: str, authority: Path) -> Iterator[ControlHttpClient]:
    """Give a client of the Control API, and say in our words what keeps it from the SuperLink.

    Raises:
        ConfigError: The authority is none (STUDY-E095).
        EngineError: The SuperLink is not reached (STUDY-E093), its certificate does not hold (STUDY-E094), or it
            refuses for a reason of its own (STUDY-E097).
    """
    with closing(client(address, authority)) as control:
        try:
            yield control
        except httpx.TransportError as error:
            raise _not_reached(error, address) from error
        except httpx.HTTPStatusError as error:
            said = FlowerError.from_json(error.response.text)
            found = f"{said.code}: {said.message}" if said else f"HTTP {error.response.status_code}"
            raise EngineError("STUDY-E097", "the SuperLink refuses", where=address, found=found) from error


def answers(control: ControlHttpClient) -> bool:
    """Tell whether the SuperLink takes requests yet."""
    try:
        control.ListNodes(ListNodesRequest())
    except httpx.TransportError:
        return False
    return True


def read_public_key(path: Path) -> tuple[bytes, str]:
    """Return a site's public node key as PEM, and its fingerprint.

    Raises:
        ConfigError: It is no public key of a NIST curve (STUDY-E090).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _no_key(path, error.strerror or type(error).__name__) from error
    if b"PRIVATE KEY" in content:  # it has travelled, so it is no secret any more
        fix = "tell the hospital that its key is lost, and let it join with a new one; this one is for nobody"
        raise _no_key(path, "a private key", fix=fix)
    try:
        key = serialization.load_ssh_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "no key in OpenSSH's form") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
        raise _no_key(path, "a key of another kind")
    return _pem(key), _fingerprint(key)


def register(control: ControlHttpClient, site: str, public_key: Path) -> str:
    """Make a site's node key known, under the site's name.

    Returns:
        The fingerprint of the key.

    Raises:
        ConfigError: No such key (STUDY-E090), it is known already or was revoked (STUDY-E091), or the site's id is
            taken (STUDY-E092).
    """
    pem, of_key = read_public_key(public_key)
    known = sites(control)
    if same := [each for each in known if each.fingerprint == of_key]:
        revoked = same[0].state == "revoked"
        raise ConfigError(
            "STUDY-E091",
            "this key was revoked, and can never be let in again" if revoked else "this key is let in already",
            where=str(public_key),
            found=f"{same[0].site}, {of_key}",
            fix="let the hospital make a new key" if revoked else "nothing is to be done; see fedfm-study sites",
        )
    if any(each.site == site and each.state != "revoked" for each in known):
        fix = "choose another id; or, where the hospital has lost its key, first: fedfm-study revoke " + site
        raise ConfigError("STUDY-E092", "this id is taken by another key", where="--site", found=site, fix=fix)
    control.RegisterNode(RegisterNodeRequest(public_key=pem, name=site))
    return of_key


def is_let_in(control: ControlHttpClient, site: str, of_key: str) -> bool:
    """Whether a site is let in with just the key of this fingerprint."""
    wanted = (site, of_key)
    return any((each.site, each.fingerprint) == wanted and each.state != "revoked" for each in sites(control))


def revoke(control: ControlHttpClient, site: str) -> Admitted:
    """Put a site out: its key is refused from now on, also in a run that goes on, and for ever.

    Raises:
        ConfigError: No such site is let in (STUDY-E096).
    """
    let_in = [each for each in sites(control) if each.state != "revoked"]
    meant = [each for each in let_in if each.site == site]
    if not meant:
        names = ", ".join(sorted(each.site for each in let_in)) or "none"
        raise ConfigError("STUDY-E096", "no such site is let in", where="site", found=site, allowed=names)
    for each in meant:
        control.UnregisterNode(UnregisterNodeRequest(node_id=each.node))
    return meant[0]


def sites(control: ControlHttpClient) -> list[Admitted]:
    """Return every site that was ever let in, by id; those that are still before those that were put out."""
    found = [_admitted(node) for node in control.ListNodes(ListNodesRequest()).nodes_info]
    return sorted(found, key=lambda each: (each.state == "revoked", each.site, each.since))


def sites_online(control: ControlHttpClient) -> set[str]:
    """Return the names of the sites whose SuperNode is connected."""
    return {node.name for node in control.ListNodes(ListNodesRequest()).nodes_info if node.status == "online"}


def _admitted(node: NodeInfo) -> Admitted:
    left = node.last_deactivated_at or node.last_activated_at
    seen = datetime.now(UTC) if node.status == "online" else _moment(left) if left else None
    # Flower takes no other kind
    key = cast("ec.EllipticCurvePublicKey", serialization.load_pem_public_key(node.public_key))
    since = _moment(node.registered_at)
    return Admitted(node.name, STATES[node.status], seen, since, _fingerprint(key), node.node_id)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    return fingerprint(key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode())


def _no_key(path: Path, found: str, *, fix: str = "") -> ConfigError:
    fix = fix or "ask the hospital for the site.pub that fedfm-site init has made"
    return ConfigError("STUDY-E090", "no public node key", where=str(path), found=found, fix=fix)


def _not_reached(error: httpx.TransportError, address: str) -> FedFMError:
    causes = [error, error.__cause__, error.__context__]
    text = " ".join(str(cause) for cause in causes if cause)
    if "CERTIFICATE_VERIFY_FAILED" in text or any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        what = next((ours for theirs, ours in _TLS.items() if theirs in text), "the SuperLink's certificate fails")
        fix = "name the ca.crt of this SuperLink with --authority, and a host of its certificate with --superlink"
        return EngineError("STUDY-E094", what, where=address, fix=fix)
    return EngineError(
        "STUDY-E093",
        "the SuperLink does not answer",
        where=address,
        found=str(error) or type(error).__name__,
        allowed="host:port of its Control API, which only the coordinator's own network has",
        fix="start it, or name it with --superlink",
    )

"""Who may take part: the sites whose node keys the SuperLink knows. Over its Control API."""

from pathlib import Path

import httpx
from cryptography.hazmat.primitives import serialization
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor


def client(address: str, authority: Path) -> ControlHttpClient:
    """Return a client of the Control API at ``host:port`` whose certificate ``authority`` signed."""
    return ControlHttpClient.from_server_address(
        server_address=address,
        insecure=False,
        root_certificates=authority.read_bytes(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
    )


def answers(control: ControlHttpClient) -> bool:
    """Tell whether the SuperLink takes requests yet."""
    try:
        control.ListNodes(ListNodesRequest())
    except httpx.TransportError:
        return False
    return True


def register(control: ControlHttpClient, site: str, public_key: Path) -> None:
    """Make a site's node key known, under the site's name."""
    key = serialization.load_ssh_public_key(public_key.read_bytes())
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    control.RegisterNode(RegisterNodeRequest(public_key=pem, name=site))


def sites_online(control: ControlHttpClient) -> set[str]:
    """Return the names of the sites whose SuperNode is connected."""
    return {node.name for node in control.ListNodes(ListNodesRequest()).nodes_info if node.status == "online"}

"""A SuperLink's Fleet API in this process: Flower's own servicer and its check of node keys, nothing else of it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography.hazmat.primitives import serialization
from flwr.proto.fleet_pb2_grpc import add_FleetServicer_to_server
from flwr.server.superlink.fleet.grpc_rere.fleet_servicer import FleetServicer
from flwr.server.superlink.fleet.grpc_rere.node_auth_server_interceptor import NodeAuthServerInterceptor
from flwr.server.superlink.linkstate import LinkState, LinkStateFactory
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME
from flwr.supercore.interceptors.rpc_error_translation_interceptor import RpcErrorTranslationServerInterceptor
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.federation import NoOpFederationManager

from tests.tls import Signed


@dataclass(frozen=True)
class Served:
    """A Fleet API that answers."""

    address: str
    state: LinkState

    def register(self, public: Path) -> int:
        key = serialization.load_ssh_public_key(public.read_bytes())
        pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return self.state.create_node("owner", "owner", pem, 0)

    def status(self, node: int) -> str:
        return self.state.get_node_info(node_ids=[node])[0].status


@contextmanager
def fleet(shown: Signed | None, *, authenticates: bool = True) -> Iterator[Served]:
    """Serve the Fleet API on a free port, over TLS with the certificate that is shown, or plain."""
    states = LinkStateFactory(FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), ObjectStoreFactory())
    checks = [NodeAuthServerInterceptor(states)]
    server = grpc.server(ThreadPoolExecutor(8), interceptors=[RpcErrorTranslationServerInterceptor(), *checks])
    add_FleetServicer_to_server(FleetServicer(states, ObjectStoreFactory(), authenticates), server)
    if shown is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        credentials = grpc.ssl_server_credentials([(shown.key_pem, shown.pem)])
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield Served(f"127.0.0.1:{port}", states.state())
    finally:
        server.stop(None).wait()

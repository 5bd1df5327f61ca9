"""Shuts a door that Ray Serve 2.60 leaves open: every replica runs a gRPC server on all interfaces that asks for no token and
unpickles what it is sent, so whoever reaches the machine could run code there (ray/serve/_private/replica.py, `_on_initialized`).

It serves calls between deployments only where RAY_SERVE_USE_GRPC_BY_DEFAULT or RAY_SERVE_THROUGHPUT_OPTIMIZED is set; else nobody
uses it, and it is bound to the loopback address. Where it is used, set RAY_USE_TLS, which it honours, or a firewall.
"""

from typing import Any

from ray.serve._private import replica
from ray.serve._private.constants import RAY_SERVE_USE_GRPC_BY_DEFAULT

# Looked up at import: a Ray that has renamed it must not go unnoticed.
_bind = replica.add_port_to_grpc_server


def keep_to_loopback() -> None:
    """To be called where replicas are made, before they are: when the module of their class is imported."""
    if not RAY_SERVE_USE_GRPC_BY_DEFAULT:
        replica.add_port_to_grpc_server = _bind_loopback


def _bind_loopback(server: Any, address: str) -> int:
    port: int = _bind(server, address.replace("[::]", "127.0.0.1"))
    return port

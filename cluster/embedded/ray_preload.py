"""Imported first by every Ray worker interpreter, before any task reaches it: Serve replicas listen on loopback alone.

Serve gives each replica a gRPC server for calls between deployments and binds it to all interfaces; there is no setting
for it. Importing Serve here also spares the first replica of an interpreter the time.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

serve_replica: Any = import_module("ray.serve._private.replica")
_add_port = serve_replica.add_port_to_grpc_server


def _add_loopback_port(server: Any, address: str) -> int:
    port: int = _add_port(server, address.replace("[::]", "127.0.0.1"))
    return port


serve_replica.add_port_to_grpc_server = _add_loopback_port

"""The API in a process: uvicorn on loopback, ended by the same signals as the loop."""

from __future__ import annotations

import uvicorn

from cluster.api.app import create
from cluster.api.parts import Parts

GRACE_S = 3
CONNECTIONS = 512


def server(parts: Parts) -> uvicorn.Server:
    """Return a server for the API that has not been started; ``run`` blocks until SIGTERM or ``should_exit``."""
    config = uvicorn.Config(
        create(parts),
        host=parts.settings.api_host,
        port=parts.settings.api_port,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=True,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=30,
    )
    return uvicorn.Server(config)

"""A control plane that waits: it answers probes and refuses everything else. Traffic follows the leader's label."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

ALIVE = {"/livez": 200}
NOT_READY = 503


class _Door(BaseHTTPRequestHandler):
    timeout: ClassVar[int] = 5

    def do_GET(self) -> None:
        status = ALIVE.get(self.path, NOT_READY)
        body = b'{"status":"standby"}'
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("retry-after", "1")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Keep quiet: probes come every few seconds."""


@contextmanager
def standby(host: str, port: int) -> Iterator[None]:
    """Answer probes at the API's address until the block ends; then the address is free again."""
    server = ThreadingHTTPServer((host, port), _Door)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="standby", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
